"""Values of a request, wherever they stand: in the query, in a form, or in JSON."""

from __future__ import annotations

from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from gridnode.control.door_request import decode_body, read_body
from gridnode.errors import BadInput

# A request has a dozen values.
MAX_FIELDS = 100


async def read_values(request: Request) -> dict[str, Any]:
    """Return the values of `request`; those in the body win over those in the query.

    Raises:
        BodyTooLarge: there is more than the door reads.
        BadInput: the body is none of a form and JSON, or cannot be read.
    """
    body = await read_body(request)
    kind = request.headers.get("content-type", "application/x-www-form-urlencoded")
    return {**request.query_params, **_body_values(kind, body)}


def _body_values(kind: str, body: bytes) -> dict[str, Any]:
    name = kind.partition(";")[0].strip().lower()
    try:
        if name == "application/x-www-form-urlencoded":
            text = body.decode()
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        if name == "multipart/form-data":
            return _parts(kind, body)
    except ValueError as exc:
        raise BadInput(f"the form cannot be read: {exc}") from exc
    if name == "application/json":
        return decode_body(body, dict[str, Any])
    raise BadInput(f"a body of type {name[:64]!r} is not read here; send a form or JSON")


def _parts(kind: str, body: bytes) -> dict[str, Any]:
    """Return the parts of a form in several (RFC 7578): the browser's `FormData`."""
    head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1")
    form = BytesParser(EmailMessage, policy=HTTP).parsebytes(head + body)
    values: dict[str, Any] = {}
    for part in form.iter_parts():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str) and isinstance(content, bytes):
            values[name] = content.decode()
    return values
