"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from gridnode.config import DEFAULT_API
from gridnode.core.addresses import Address, parse_address
from gridnode.core.spans import Span, parse_span
from gridnode.units import parse_bytes

T = TypeVar("T")


def _parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return `parse` with its errors in the words of the command line."""

    def parse_option(text: str | T) -> T:
        if not isinstance(text, str):
            return text  # a default
        try:
            return parse(text)
        except ValueError as exc:
            raise typer.BadParameter(str(exc)) from exc

    return parse_option


def _parse_api(text: str) -> Address:
    return parse_address(text, default_port=DEFAULT_API.port)


read_address = _parser(parse_address)
read_api = _parser(_parse_api)
read_span = _parser(parse_span)
read_bytes = _parser(parse_bytes)


class LogLevel(StrEnum):
    """What is logged to standard error."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


ApiOption = Annotated[
    Address,
    typer.Option(
        "--api",
        parser=read_api,
        metavar="ADDRESS",
        envvar="GRIDNODE_API",
        show_default=str(DEFAULT_API),
        help="Where the door of the node listens.",
    ),
]

LogLevelOption = Annotated[
    LogLevel,
    typer.Option("--log-level", envvar="GRIDNODE_LOG_LEVEL", help="Least level that is logged to stderr."),
]

__all__ = [
    "ApiOption",
    "LogLevel",
    "LogLevelOption",
    "Span",
    "read_address",
    "read_api",
    "read_bytes",
    "read_span",
]
