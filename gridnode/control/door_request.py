"""Bodies of requests: read to a limit, decoded into records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from gridnode.control.answer_schema import GenerateRequest
from gridnode.core.route_wishes import RouteWishes
from gridnode.core.sampling import SamplingParams
from gridnode.errors import BadInput
from gridnode.units import MIB, format_bytes

# The longest prompt (MAX_PROMPT_CHARACTERS) in UTF-8, with room for its JSON around it.
MAX_BODY_BYTES = 32 * MIB

T = TypeVar("T")


class BodyTooLarge(BadInput):
    """Raised when a request is longer than the door reads."""


async def read_body(request: Request) -> bytes:
    """Return the body of a request, read to its limit and not beyond.

    Raises:
        BodyTooLarge: there is more than `MAX_BODY_BYTES`.
    """
    too_large = BodyTooLarge(
        f"the body is longer than {format_bytes(MAX_BODY_BYTES)}, which the door does not read"
    )
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


def decode_body(body: bytes, kind: type[T]) -> T:
    """Return the record that the JSON `body` holds; fields that `kind` lacks are ignored.

    Raises:
        BadInput: it is not JSON, or a field has a wrong value; the text names it.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadInput(f"the request cannot be used: {exc}") from exc


def decode_fields(fields: Mapping[str, Any], kind: type[T], *, strict: bool = True) -> T:
    """Return the record that `fields` make.

    Args:
        strict: False takes numbers that are written as text, as forms have them.

    Raises:
        BadInput: a field has a wrong value; the text names it.
    """
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as exc:
        raise BadInput(f"the request cannot be used: {exc}") from exc


def check_request(request: GenerateRequest) -> GenerateRequest:
    """Return `request`, which was put together from another dialect's words, if it keeps every limit.

    Raises:
        BadInput: a field has a wrong value; the text names it.
    """
    return decode_fields(msgspec.to_builtins(request), GenerateRequest)


def decode_request(body: bytes, kind: type[T]) -> T:
    """Return the request that `body` holds, in the door's own words.

    Raises:
        BadInput: as `decode_body`, or a field is unknown.
    """
    fields = decode_body(body, dict[str, msgspec.Raw])
    _refuse_unknown(fields, kind, "")
    for name, record in (("sampling", SamplingParams), ("routing", RouteWishes)):
        if name in fields:
            _refuse_unknown(decode_body(fields[name], dict[str, msgspec.Raw]), record, f"{name}.")
    return decode_body(body, kind)


def _refuse_unknown(given: dict[str, msgspec.Raw], record: Any, prefix: str) -> None:
    """Refuse names that `record` lacks: a misspelt limit must not silently be no limit."""
    known = {field.name for field in dataclasses.fields(record)}
    if unknown := sorted(given.keys() - known):
        raise BadInput(
            f"unknown field {prefix + unknown[0][:64]!r}; known are {', '.join(sorted(known))}",
        )
