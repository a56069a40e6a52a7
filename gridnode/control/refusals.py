"""Errors in the words of whoever asked, also where no endpoint was reached: by the path."""

from __future__ import annotations

import re

from starlette.responses import Response

from gridnode.control.anthropic.errors import refuse as refuse_anthropic
from gridnode.control.dialect import Refuse
from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_response import error_response
from gridnode.control.ollama.answers import refuse as refuse_ollama
from gridnode.control.openai.errors import api_error_response
from gridnode.control.petals.errors import refuse as refuse_petals

# The first that matches; the door's own words are for all others.
_DIALECTS: tuple[tuple[re.Pattern[str], Refuse], ...] = (
    (re.compile(r"/v1/messages(/|$)"), refuse_anthropic),
    (re.compile(r"/v1/"), api_error_response),
    (re.compile(r"/api/v\d/generate$"), refuse_petals),
    (re.compile(r"/api/(?!v\d/)"), refuse_ollama),
)


def refuse_at(path: str, body: ErrorBody, *, status: int | None = None) -> Response:
    """Return the answer for an error at `path`; `status` overrides the table of the door."""
    for pattern, refuse in _DIALECTS:
        if pattern.match(path):
            return refuse(body, status=status)
    return error_response(body, status=status)
