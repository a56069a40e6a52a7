"""Values of a request, wherever they stand: in the query, in a form, or in JSON."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from gridnode.control.door_request import decode_body, read_body
from gridnode.errors import BadInput

# A request has a dozen values.
MAX_FIELDS = 100
MAX_HEAD_BYTES = 1024
"""What stands before the content of a part: a name, perhaps a type."""

_BOUNDARY = re.compile(r'; *boundary="?([^";, ]{1,70})', re.IGNORECASE)
_NAME = re.compile(
    rb'\r\ncontent-disposition: *form-data;[^\r\n]*?\bname=(?:"([^"\r\n]*)"|([^\s;"]+))', re.IGNORECASE
)


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
    """Return the parts of a form in several (RFC 7578): the browser's `FormData`.

    In time that grows with the body alone: it is read on the loop that carries everything else.

    Raises:
        ValueError: there are too many parts, or one of them cannot be read.
    """
    boundary = _BOUNDARY.search(kind)
    if boundary is None:
        raise ValueError("it names no boundary")
    delimiter = f"\r\n--{boundary[1]}".encode("latin-1")
    _, *parts = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 1)
    values: dict[str, Any] = {}
    for number, part in enumerate(parts, 1):
        if part.startswith(b"--"):
            return values
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head) if len(head) <= MAX_HEAD_BYTES else None
        if name is None:
            raise ValueError(f"part {number} has no name within {MAX_HEAD_BYTES} bytes")
        values[(name[1] or name[2] or b"").decode()] = content.decode()
    raise ValueError(f"no end is found behind {len(parts)} parts; {MAX_FIELDS} are read")
