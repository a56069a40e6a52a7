"""Kinds of values: how each is written in a flag, a variable and a TOML file. Pure."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gridnode.core.addresses import DEFAULT_PORT, Address, parse_address
from gridnode.core.hours import Hours, parse_hours
from gridnode.core.spans import Span, parse_span
from gridnode.units import format_bytes, parse_bytes, parse_bytes_per_s, parse_seconds

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_TOML_NAMES = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the values of one type are read and written."""

    name: str
    """For people: `"address"`, `"size, like 4GiB"`."""

    metavar: str
    """Stands for a value in the help."""

    read: Callable[[str], Any]
    """From text; raises ValueError."""

    toml_types: tuple[type, ...] = (str,)
    """What may stand in a TOML file."""

    write: Callable[[Any], Any] = str
    """To what stands in a TOML file."""

    is_list: bool = False
    is_flag: bool = False
    """Whether the flag has no value: `--mdns`, `--no-mdns`."""

    def read_text(self, text: str) -> Any:
        """Return the value that a variable or an argument names; lists are separated by commas.

        Raises:
            ValueError: it is not one.
        """
        if self.is_list:
            return tuple(self.read(part) for part in re.split(r"[,\s]+", text.strip()) if part)
        return self.read(text)

    def read_toml(self, value: object) -> Any:
        """Return the value that a TOML file gives.

        Raises:
            ValueError: it is not one.
        """
        if self.is_list and isinstance(value, list):
            return tuple(self._read_one(part) for part in value)
        found = self._read_one(value)
        return (found,) if self.is_list else found

    def _read_one(self, value: object) -> Any:
        if type(value) not in self.toml_types:
            names = " or ".join(_TOML_NAMES[kind] for kind in self.toml_types)
            raise ValueError(f"{value!r} is not {names}")
        return self.read(value if isinstance(value, str) else str(value))

    def write_toml(self, value: Any) -> Any:
        """Return what stands for `value` in a TOML file."""
        return [self.write(part) for part in value] if self.is_list else self.write(value)


def kind_of(annotation: Any, *, name: str, default: object) -> Kind:
    """Return the kind of a field.

    Args:
        annotation: Its type; `X | None` is that of X.
        name: Its name: one that ends with `_bytes` holds a size.
        default: Its default: an address lends its port to addresses without one.

    Raises:
        TypeError: no kind is known for this type.
    """
    if get_origin(annotation) in (types.UnionType,):
        (annotation,) = (part for part in get_args(annotation) if part is not types.NoneType)
    if get_origin(annotation) is tuple:
        inner = kind_of(get_args(annotation)[0], name=name, default=None)
        return Kind(
            name=f"list of: {inner.name}",
            metavar=inner.metavar,
            read=inner.read,
            toml_types=inner.toml_types,
            write=inner.write,
            is_list=True,
        )
    if get_origin(annotation) is Literal:
        return _choice({str(value): value for value in get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _choice({str(member.value): member for member in annotation})
    if annotation is Address:
        port = default.port if isinstance(default, Address) else DEFAULT_PORT
        return Kind(name="address", metavar="ADDRESS", read=partial(parse_address, default_port=port))
    if annotation is int and name.endswith("_bytes"):
        return Kind(
            name="size, like 4GiB",
            metavar="SIZE",
            read=parse_bytes,
            toml_types=(str, int),
            write=_write_bytes,
        )
    if annotation is int and name.endswith("_bytes_per_s"):
        return Kind(
            name="rate, like 2MiB/s or 20Mbit/s",
            metavar="RATE",
            read=parse_bytes_per_s,
            write=_write_rate,
        )
    if annotation is float and name.endswith("_s"):
        return Kind(
            name="duration, like 30s or 1h30m",
            metavar="DURATION",
            read=parse_seconds,
            toml_types=(str, int, float),
            write=_write_seconds,
        )
    if annotation in _KINDS:
        return _KINDS[annotation]
    raise TypeError(f"the field {name!r} of the configuration has the type {annotation!r}: give it a Kind")


def _choice(values: dict[str, Any]) -> Kind:
    def read(text: str) -> Any:
        try:
            return values[text.strip().lower()]
        except KeyError:
            raise ValueError(f"{text!r} is not one of {', '.join(values)}") from None

    def write(value: Any) -> str:
        return str(getattr(value, "value", value))

    return Kind(name=f"one of {', '.join(values)}", metavar="|".join(values), read=read, write=write)


def _read_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _write_seconds(duration_s: float) -> str:
    return f"{duration_s:g}s"


def _write_rate(value: int) -> str:
    return f"{_write_bytes(value)}/s"


def _write_bytes(value: int) -> str | int:
    """Return a size as people write it if that loses nothing."""
    text = format_bytes(value).replace(" ", "").replace(".00", "").replace(".0", "")
    return text if parse_bytes(text) == value else value


_KINDS: dict[Any, Kind] = {
    str: Kind(name="text", metavar="TEXT", read=str),
    bool: Kind(
        name="true or false", metavar="", read=_read_bool, toml_types=(bool,), write=bool, is_flag=True
    ),
    int: Kind(name="whole number", metavar="N", read=_read_int, toml_types=(int,), write=int),
    float: Kind(name="number", metavar="X", read=_read_float, toml_types=(float, int), write=float),
    Path: Kind(name="path", metavar="PATH", read=lambda text: Path(text).expanduser()),
    Hours: Kind(name="hours, like 22:00-07:00", metavar="HOURS", read=parse_hours),
    Span: Kind(name="blocks, like 0:10", metavar="START:END", read=parse_span),
}
