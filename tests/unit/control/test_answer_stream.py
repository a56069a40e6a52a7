"""Answers on their way to a reader, with an ASGI server made of two functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fake_node import FakeNode
from starlette.responses import Response
from waiting import until

from gridnode.control import answer_stream
from gridnode.control.answer_schema import AnswerEvent, GenerateRequest
from gridnode.control.answer_stream import AnswerStream, WholeAnswer
from gridnode.control.door_response import error_response
from gridnode.control.server_sent import EventEncoder
from gridnode.errors import CacheFull

REQUEST = GenerateRequest(prompt="x")


class Reader:
    """Takes what an answer sends, until it leaves or falls asleep."""

    def __init__(self, *, falls_asleep: bool = False) -> None:
        self.status = 0
        self.text = ""
        self.left = asyncio.Event()
        self.closing = asyncio.Event()
        self._falls_asleep = falls_asleep

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self._falls_asleep:
            await asyncio.get_running_loop().create_future()
        self.text += message["body"].decode()

    async def read(self, response: Response) -> None:
        async with asyncio.timeout(5.0):
            await response({"type": "http"}, self.receive, self.send)


def stream(reader: Reader, events: AsyncGenerator[AnswerEvent, None], **fields: Any) -> AnswerStream[Any]:
    return AnswerStream(events, encoder=EventEncoder(), closing=reader.closing, **fields)


def test_a_silent_stream_is_kept_alive() -> None:
    async def run() -> None:
        reader, node = Reader(), FakeNode(hang_after=0)
        reading = asyncio.create_task(reader.read(stream(reader, node.generate(REQUEST), keep_alive_s=0.001)))
        await until(lambda: reader.text.count(": keep-alive") > 2)
        reader.left.set()
        await reading
        assert node.num_running == 0

    asyncio.run(run())


def test_a_reader_who_falls_asleep_loses_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_stream, "MAX_READER_PAUSE_S", 0.01)

    async def run() -> None:
        reader, node = Reader(falls_asleep=True), FakeNode()
        await reader.read(stream(reader, node.generate(REQUEST)))
        assert len(node.requests) == 1
        assert node.num_running == 0

    asyncio.run(run())


@pytest.mark.parametrize("ends", ["reader leaves", "node stops"])
def test_a_whole_answer_is_cancelled_when_nobody_can_take_it(ends: str) -> None:
    async def run() -> None:
        reader = Reader()
        cancelled = asyncio.Event()
        begun = asyncio.Event()

        async def make() -> Response:
            begun.set()
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

        answer = WholeAnswer(make, refuse=error_response, closing=reader.closing)
        reading = asyncio.create_task(reader.read(answer))
        await begun.wait()
        (reader.left if ends == "reader leaves" else reader.closing).set()
        await reading
        assert cancelled.is_set()
        assert reader.status == (0 if ends == "reader leaves" else 503)

    asyncio.run(run())


def test_a_whole_answer_tells_its_error() -> None:
    async def run() -> None:
        async def make() -> Response:
            raise CacheFull(900, 100)

        reader = Reader()
        await reader.read(WholeAnswer(make, refuse=error_response, closing=reader.closing))
        assert reader.status == 503
        assert "900" in reader.text

    asyncio.run(run())


def test_a_mistake_of_our_own_is_not_told_in_detail(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncGenerator[AnswerEvent, None]:
        raise RuntimeError("secret")
        yield

    async def run() -> None:
        reader = Reader()
        await reader.read(stream(reader, broken()))
        assert reader.status == 500
        assert "secret" not in reader.text

    asyncio.run(run())
    assert "secret" in caplog.text
