"""The page Chat: its script speaks to the door like any other client."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.readiness import readiness
from gridnode.control.status_schema import ModelStatus
from gridnode_web.rendering import page

# Name in the request, label, step of the arrows, what it does. Ranges stand in `static/chat/settings.js`.
_FIELDS = (
    ("temperature", "Temperature", "0.1", "0 is always the most probable token."),
    ("top_p", "Top p", "0.05", "The likeliest tokens up to this sum; 1 keeps all."),
    ("top_k", "Top k", "1", "At most this many tokens; 0 keeps all."),
    ("repetition_penalty", "Repetition penalty", "0.05", "Above 1, tokens seen before get less probable."),
    ("seed", "Seed", "1", "Empty takes another one for each answer."),
    ("max_tokens", "New tokens at most", "1", "Where an answer is cut at the latest."),
)

# Text becomes elements in one place only, behind the sanitizer; browsers that know this rule enforce it.
_TRUSTED_TYPES = "; require-trusted-types-for 'script'; trusted-types dompurify"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModels:
    """Answer of `GET /chat/models`: whom one can ask. Whoever may chat may see it; peers are not in it."""

    models: tuple[ModelStatus, ...]
    ready: bool
    reason: str
    """What the node is doing, for people."""


def chat_routes(control: NodeControl) -> list[BaseRoute]:
    """Return the page at `/chat`, and what it asks again and again."""

    async def chat(request: Request) -> Response:
        response = page(request, "chat.html", fields=_FIELDS)
        response.headers["Content-Security-Policy"] += _TRUSTED_TYPES
        return response

    async def models(request: Request) -> Response:
        status = control.status()
        found = readiness(status)
        return json_response(ChatModels(models=status.models, ready=found.ready, reason=found.reason))

    return [Route("/chat", chat), Route("/chat/models", models)]
