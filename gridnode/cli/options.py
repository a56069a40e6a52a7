"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from gridnode.cli.ending import ending
from gridnode.config import DEFAULT_API
from gridnode.config.settings import settings
from gridnode.config.sources import read_sources
from gridnode.core.addresses import Address, at_home
from gridnode.logs import LogLevel

T = TypeVar("T")


def option_reader(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return `read` with its errors in the words of the command line."""

    def read_option(text: str | T) -> T:
        if not isinstance(text, str):
            return text  # a default
        try:
            return read(text)
        except ValueError as exc:
            raise typer.BadParameter(str(exc)) from exc

    return read_option


def _configured_api(context: typer.Context, value: Address) -> Address:
    """Return the door that was named, or else the one that the configuration gives to the node."""
    source = context.get_parameter_source("api")
    if source is None or source.name != "DEFAULT" or context.resilient_parsing:
        return value
    with ending():  # options are read before the command begins
        found: Address = read_sources(os.environ)["api.address"].value
    if not found.port:
        return DEFAULT_API  # port 0: nobody could guess which one it became
    return at_home(found) if _is_here(found) else found


def _is_here(address: Address) -> bool:
    """Return whether `address` is one of this computer, where the door needs no key on loopback."""
    with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address.host, 0))
        except OSError:
            return False
    return True


ApiOption = Annotated[
    Address,
    typer.Option(
        "--api",
        parser=option_reader(settings()["api.address"].kind.read),
        callback=_configured_api,
        metavar="ADDRESS",
        show_default=f"{DEFAULT_API}, or api.address of the configuration",
        help="Where the door of the node listens.",
    ),
]

LogLevelOption = Annotated[
    LogLevel,
    typer.Option("--log-level", envvar="GRIDNODE_LOG_LEVEL", help="Least level that is logged to stderr."),
]

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON; docs/cli.md describes its fields.", show_default=False)
]

EventsOption = Annotated[
    bool, typer.Option("--json", help="Print what happens, one JSON object a line, to stdout.")
]

StopWithStdinOption = Annotated[
    bool, typer.Option("--stop-with-stdin", help="Stop when standard input ends.", hidden=True)
]

__all__ = [
    "ApiOption",
    "EventsOption",
    "JsonOption",
    "LogLevel",
    "LogLevelOption",
    "StopWithStdinOption",
    "option_reader",
]
