"""Passes through blocks whose only server is away for a moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nodes import running_swarm
from waiting import until

from gridnode.core.ids import PeerId
from gridnode.core.spans import Span
from gridnode.errors import ErrorCode, NoCapacity, PeerRefused
from gridnode.net.transport import Stream
from gridnode.node.block_call import BlockCall
from gridnode.node.block_server import BlockServer
from gridnode.node.engine_supervisor import EngineSupervisor
from gridnode.node.gradients import backward
from gridnode.node.hidden_session import HiddenSession
from gridnode.node.node import Node
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import Refused, SessionOpened

pytestmark = pytest.mark.swarm

SPAN = Span(0, 4)
HIDDEN, AFTER = np.random.default_rng(0).normal(size=(2, 1, 5, 64)).astype(np.float32)


@contextlib.asynccontextmanager
async def server_and_client(model: Path) -> AsyncIterator[tuple[Node, Node, BlockCall]]:
    async with running_swarm(model, [SPAN], executor="torch") as swarm:
        client = await swarm.start(None, serves=False)
        await until(lambda: bool(client.status().models))
        found, num_blocks = await client.models.resolve("")
        yield swarm.nodes[0], client, BlockCall(model=found, num_blocks=num_blocks, part=SPAN)


def kill_worker(server: Node) -> None:
    pid = server.status().engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def forward(client: Node, call: BlockCall) -> np.ndarray:
    async with contextlib.aclosing(HiddenSession(client.models, call)) as session:
        return await session.step(HIDDEN)


async def gradient(client: Node, call: BlockCall) -> np.ndarray:
    return (await backward(client.models, call, HIDDEN, AFTER))[0]


@pytest.mark.parametrize("compute", [forward, gradient])
def test_blocks_that_are_being_loaded_are_waited_for(tiny_llama: Path, compute: Any) -> None:
    async def main() -> None:
        async with server_and_client(tiny_llama) as (server, client, call):
            expected = await compute(client, call)
            kill_worker(server)
            await until(lambda: client.models.is_loading(call))
            np.testing.assert_array_equal(await compute(client, call), expected)

    asyncio.run(main())


def test_a_node_that_answers_something_else_is_asked_again_once_it_says_that_it_is_back(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is named; the gradient is the same."""

    async def main() -> None:
        async with server_and_client(tiny_llama) as (server, client, call):
            expected = await gradient(client, call)

            async def say_nonsense(_: BlockServer, stream: Stream, *__: object) -> None:
                monkeypatch.undo()
                kill_worker(server)
                await stream.send(encode_message(SessionOpened(free_cache_tokens=0)))

            monkeypatch.setattr(BlockServer, "serve_backward", say_nonsense)
            np.testing.assert_array_equal(await gradient(client, call), expected)

    asyncio.run(main())


def test_who_blames_a_stranger_is_avoided_itself(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same node would be asked again for ever."""

    async def main() -> None:
        async with server_and_client(tiny_llama) as (_, client, call):

            async def blame_a_stranger(_: BlockServer, stream: Stream, *__: object) -> None:
                refusal = Refused(code=ErrorCode.NO_TRAINING, text="not me", blamed=PeerId(bytes(32)))
                await stream.send(encode_message(refusal))

            monkeypatch.setattr(BlockServer, "serve_backward", blame_a_stranger)
            with pytest.raises(PeerRefused, match="answered no_training: not me"):
                await gradient(client, call)

    asyncio.run(main())


def test_a_gradient_that_its_client_gives_up_keeps_no_place(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def wait_long(*_: Any, **__: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with server_and_client(tiny_llama) as (_, client, call):
            monkeypatch.setattr(EngineSupervisor, "backward", wait_long)
            asking = asyncio.create_task(gradient(client, call))
            async with asyncio.timeout(60):
                await began.wait()
                asking.cancel()
                await ended.wait()
            await asyncio.wait([asking])

    asyncio.run(main())


def test_a_node_that_serves_nothing_for_a_moment_is_asked_again(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks does not know yet what has happened there."""

    async def main() -> None:
        async with server_and_client(tiny_llama) as (server, client, call):
            expected = await gradient(client, call)

            def dying(_: BlockServer) -> Any:
                monkeypatch.undo()
                kill_worker(server)
                raise NoCapacity("this node is not serving any blocks now")

            monkeypatch.setattr(BlockServer, "_serving_now", dying)
            np.testing.assert_array_equal(await gradient(client, call), expected)

    asyncio.run(main())
