"""The node's end of the socket pair, with nobody behind the other end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gridnode.core.spans import Span
from gridnode.engine.requests import (
    BackwardRequest,
    Cancel,
    EngineMessage,
    Request,
    StepAnswer,
    StepRequest,
    decode_engine_message,
)
from gridnode.node.engine_link import EngineLink
from gridnode.wire.frames import FrameDecoder
from gridnode.wire.tensors import TensorHeader

TENSOR = TensorHeader("float32", (1, 1, 4))
BODY = bytes(TENSOR.num_bytes)


@pytest.mark.parametrize(
    "wanted",
    [
        StepRequest(number=0, lease=1, position=0, tensor=TENSOR, output="hidden"),
        BackwardRequest(number=0, span=Span(0, 4), each=TENSOR),
    ],
    ids=["step", "gradient"],
)
def test_the_worker_hears_that_nobody_waits_any_more(wanted: Request) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        link = await EngineLink.open(ours, on_progress=lambda progress: None)
        with theirs:
            asking = asyncio.create_task(link.request(wanted, StepAnswer, BODY))
            [asked] = await received(theirs, 1)
            asking.cancel()
            await asyncio.wait([asking])
            assert await received(theirs, 1) == [Cancel(number=asked.number)]
        await link.aclose()

    asyncio.run(scenario())


async def received(sock: socket.socket, count: int) -> list[EngineMessage]:
    decoder = FrameDecoder()
    found: list[EngineMessage] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            data = await asyncio.get_running_loop().sock_recv(sock, 65536)
            found += [decode_engine_message(frame) for frame in decoder.receive_data(data)]
    return found
