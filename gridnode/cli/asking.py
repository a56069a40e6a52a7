"""Asking a node and printing its answer."""

from __future__ import annotations

import secrets
import sys
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gridnode.cli.ending import NotReady
from gridnode.cli.route_table import answer_stats, reroute_line
from gridnode.cli.showing import printable, stderr
from gridnode.control.answer_schema import (
    ChatMessage,
    Delta,
    Failed,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Rerouted,
    Waiting,
)
from gridnode.control.client import ControlClient
from gridnode.core.addresses import Address
from gridnode.core.route_wishes import RouteWishes
from gridnode.core.sampling import SamplingParams
from gridnode.errors import BadInput, GridError, ModelUnknown, NoCapacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person asked on the command line; None leaves the choice to the node."""

    text: str
    model: str = ""
    system: str = ""
    raw: bool = False
    adapter: str = ""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: dict[str, float | None]
    routing: dict[str, Any] = field(default_factory=dict)
    """Fields of `RouteWishes`."""

    def request(self) -> GenerateRequest:
        """Return the request to the node.

        Raises:
            BadInput: a number is outside its range, or two wishes exclude each other.
        """
        if self.raw and self.system:
            raise BadInput("--system needs the chat template, --raw leaves it out; give one of them")
        given: dict[str, Any] = {name: value for name, value in self.sampling.items() if value is not None}
        if given.get("temperature") and "seed" not in given:
            given["seed"] = secrets.randbelow(2**32)
        try:
            sampling = SamplingParams(**given)
            routing = RouteWishes(**self.routing)
        except ValueError as exc:
            raise BadInput(str(exc)) from exc
        fields: dict[str, Any] = {
            "model": self.model,
            "adapter": self.adapter,
            "stop": self.stop,
            "sampling": sampling,
            "routing": routing,
        }
        if self.max_tokens is not None:
            fields["max_tokens"] = self.max_tokens
        if self.raw:
            return GenerateRequest(prompt=self.text, **fields)
        system = (ChatMessage(role="system", content=self.system),) if self.system else ()
        return GenerateRequest(messages=(*system, ChatMessage(role="user", content=self.text)), **fields)


async def answer(question: Question, api: Address, *, as_json: bool = False, stats: bool = False) -> None:
    """Print the answer to `question` as it comes. Cancelling cancels it on every hop.

    Raises:
        NotReady: the node is still loading.
        GridError: what ended the answer.
    """
    request = question.request()
    printer = _Printer(as_json=as_json, stats=stats)
    async with ControlClient(api) as client:
        try:
            async with aclosing(client.run(request)) as events:
                async for event in events:
                    printer.show(event)
        except GridError as exc:
            if as_json:
                printer.show(Failed(code=exc.code, text=str(exc)))
            await _explain(client, exc)
            raise
        finally:
            printer.end_line()


async def _explain(client: ControlClient, exc: GridError) -> None:
    """Raise `NotReady` if the node lacks what it needs only because it is still loading."""
    if isinstance(exc, NoCapacity | ModelUnknown):
        found = await client.readiness()
        if not found.ready:
            raise NotReady(f"{exc}\nThis node is not ready: {found.reason}; see 'gridnode status'") from exc


class _Printer:
    """Shows events: the answer on standard output, what it cost on standard error."""

    def __init__(self, *, as_json: bool, stats: bool) -> None:
        self._as_json = as_json
        self._stats = stats
        self._is_terminal = sys.stdout.isatty()
        self._in_line = False

    def show(self, event: GenerateEvent) -> None:
        if self._as_json:
            print(msgspec.json.encode(event).decode(), flush=True)
        elif isinstance(event, Delta):
            self._write(event.text)
        elif isinstance(event, Finished):
            self._write("\n")
        if isinstance(event, Finished) and self._stats:
            stderr().print(answer_stats(event), soft_wrap=True)
        if self._stats or self._is_terminal:
            self._comment(event)

    def _comment(self, event: GenerateEvent) -> None:
        """Tell on standard error what happens to the answer."""
        if isinstance(event, Rerouted):
            text = reroute_line(event)
        elif isinstance(event, Waiting):
            text = f"waiting: {printable(event.text)}"
        else:
            return
        stderr().print(f"[{text}]", style="dim", markup=False, soft_wrap=True)

    def _write(self, text: str) -> None:
        # Tokens were chosen by a stranger's computer; only a terminal obeys what they might say to it.
        sys.stdout.write(printable(text) if self._is_terminal else text)
        sys.stdout.flush()
        if text:
            self._in_line = not text.endswith("\n")

    def end_line(self) -> None:
        """End a line that was cut off, so that what follows begins a new one."""
        if self._in_line and self._is_terminal:
            self._write("\n")
