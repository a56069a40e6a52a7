"""Which fields a request may have: used, harmless, or refused by name because they change the meaning."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from gridnode.control.openai.errors import BadField
from gridnode.errors import BadInput

Record = TypeVar("Record", bound=msgspec.Struct)

# How msgspec tells where a value stands.
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`$")


@dataclass(frozen=True, slots=True)
class Refused:
    """A field of the API that changes the meaning of a request, and cannot be served."""

    reason: str
    harmless: tuple[Any, ...] = (False,)
    """Values that change nothing; null never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRules(Generic[Record]):
    """The fields of one kind of request."""

    record: type[Record]
    """The fields that are used."""

    ignored: frozenset[str]
    """Fields of the API that do not change what is answered."""

    refused: Mapping[str, Refused] = field(default_factory=dict)


def decode_fields(body: bytes, rules: FieldRules[Record]) -> Record:
    """Return the record that the JSON `body` holds.

    Raises:
        BadInput: it is no JSON object.
        BadField: a field is refused, unknown or has a wrong value; the text names it.
    """
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadInput(f"the request cannot be used: {exc}") from exc
    fields = {name: value for name, value in given.items() if value is not None}
    for name in fields.keys() - set(rules.record.__struct_fields__):
        _check_unused(name, fields[name], rules)
    try:
        return msgspec.convert(fields, rules.record, str_keys=True)
    except msgspec.ValidationError as exc:
        place = _PLACE.search(str(exc))
        raise BadField(f"the request cannot be used: {exc}", param=place[1] if place else "") from exc


def _check_unused(name: str, value: Any, rules: FieldRules[Record]) -> None:
    if name in rules.ignored:
        return
    refused = rules.refused.get(name)
    if refused is None:
        # A misspelt limit must not silently be no limit.
        near = difflib.get_close_matches(name[:64], rules.record.__struct_fields__, n=1)
        hint = f"; is it {near[0]!r}?" if near else ""
        raise BadField(f"unknown field {name[:64]!r}{hint}", param=name[:64])
    if value not in refused.harmless:
        raise BadField(f"field {name!r} is refused: {refused.reason}", param=name)
