"""The page Chat: its script speaks to the door like any other client."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode_web.rendering import page

# Name in the request, label, step of the arrows, what it does. Ranges stand in `static/chat/settings.js`.
_FIELDS = (
    ("temperature", "Temperature", "0.1", "0 always takes the most probable token; more is more varied."),
    ("top_p", "Top p", "0.05", "Of the probable tokens, the fewest that reach this together. 1 keeps all."),
    ("top_k", "Top k", "1", "Only so many of the most probable tokens. 0 keeps all."),
    ("repetition_penalty", "Repetition penalty", "0.05", "Above 1, tokens seen before get less probable."),
    ("seed", "Seed", "1", "The same seed gives the same answer. Empty takes another one each time."),
    ("max_tokens", "New tokens at most", "1", "Where an answer is cut at the latest."),
)


def chat_route() -> Route:
    """Return the page at `/chat`."""

    async def chat(request: Request) -> Response:
        return page(request, "chat.html", fields=_FIELDS)

    return Route("/chat", chat)
