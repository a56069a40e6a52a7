"""What goes wrong ends in a message with numbers, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import psutil
import pytest
from neighbours import introduce
from nodes import LOOPBACK, Swarm, ask, collect, running_swarm
from waiting import until

from gridnode.control.answer_schema import Delta, GenerateRequest
from gridnode.core.spans import Span
from gridnode.errors import (
    BadInput,
    CacheFull,
    ContextFull,
    ErrorCode,
    GridError,
    ModelUnknown,
    NoRoute,
    PeerRefused,
)
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport
from gridnode.node.node import Node
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame
from gridnode.wire.messages import OpenPush, OpenSession, Refused, Step, StepKind, decode_message
from gridnode.wire.tensors import TensorHeader

pytestmark = pytest.mark.swarm

HALVES = [Span(0, 2), Span(2, 4)]
PROMPT = (1, 2, 3)


async def first_delta(node: Node, **fields: object) -> contextlib.aclosing:  # type: ignore[type-arg]
    """Return the events of a long answer that has begun."""
    request = GenerateRequest(token_ids=PROMPT, max_tokens=1000, ignore_eos=True, **fields)  # type: ignore[arg-type]
    events = node.generate(request)
    async for event in events:
        if isinstance(event, Delta):
            break
    return contextlib.aclosing(events)


def test_closing_an_answer_frees_every_lease_at_once(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            async with await first_delta(swarm.nodes[0]):
                assert all(node.free_cache_tokens < 2048 for node in swarm.nodes)
            await swarm.wait_nothing_leased()
            assert (await ask(swarm.nodes[0], PROMPT)).token_ids

    asyncio.run(scenario())


def test_cancelling_a_long_prompt_frees_every_lease(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            node = swarm.nodes[0]
            asking = asyncio.create_task(ask(node, [1] * 1900, prefill_chunk_tokens=1))
            await until(lambda: all(n.status().open_sessions for n in swarm.nodes))
            asking.cancel()
            await asyncio.wait([asking])
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_a_full_cache_is_refused_with_numbers_and_others_go_on(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            async with await first_delta(swarm.nodes[0]):
                await until(lambda: _announced_free(swarm) == {2048 - 1002})
                with pytest.raises(CacheFull, match=r"cannot lease 1502 tokens of KV cache, 1046 are free"):
                    await ask(swarm.nodes[0], PROMPT, max_tokens=1500)
                assert (await ask(swarm.nodes[0], PROMPT)).token_ids
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def _announced_free(swarm: Swarm) -> set[int]:
    return {peer.serving.free_cache_tokens for peer in swarm.nodes[0].status().peers if peer.serving}


def test_a_cache_that_fills_behind_our_back_is_refused_by_the_hop(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            # All ask from the same view of the swarm, before any lease was announced.
            outcomes = await asyncio.gather(
                *(ask(swarm.nodes[0], PROMPT, max_tokens=900) for _ in range(4)), return_exceptions=True
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert 1 <= len(refused) <= 2
            assert all(isinstance(error, PeerRefused | CacheFull | NoRoute) for error in refused)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_a_prompt_that_is_too_long_is_refused_with_numbers(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            limit = swarm.nodes[0].status().models[0].context_tokens
            with pytest.raises(ContextFull, match=f"{limit + 1} tokens do not fit into a context of {limit}"):
                await ask(swarm.nodes[0], [1] * limit)
            swarm.assert_nothing_leased()

    asyncio.run(scenario())


def test_a_missing_block_names_itself_and_what_to_run(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(3, 4)]) as swarm:
            with pytest.raises(NoRoute, match=r"blocks 2:3 of 0:4 are served by nobody; .*--blocks 2:3"):
                await ask(swarm.nodes[0], PROMPT)
            assert swarm.nodes[0].status().models[0].gaps == ((2, 3),)
            await swarm.start(Span(2, 3))
            await swarm.wait_ready()
            assert len((await ask(swarm.nodes[0], PROMPT)).started.route) == 3

    asyncio.run(scenario())


def test_unknown_and_ambiguous_models_are_named(tiny_llama: Path, tiny_llama_mha: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            with pytest.raises(ModelUnknown, match="nobody in the swarm serves nonsense; served now: "):
                await ask(swarm.nodes[0], PROMPT, model="nonsense")
            # The other half is of other weights: it never becomes a part of a route.
            await swarm.start(Span(0, 2), model=tiny_llama_mha)
            await swarm.wait_ready()
            with pytest.raises(BadInput, match="several models"):
                await ask(swarm.nodes[0], PROMPT)
            assert len(swarm.nodes[0].status().models) == 2

    asyncio.run(scenario())


def test_a_session_for_other_weights_or_blocks_is_refused_by_the_peer(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2)]) as swarm:
            node = swarm.nodes[0]
            manifest = node.status().models[0].manifest
            stranger = QuicTransport(Identity.generate(), LOOPBACK)
            connection = await stranger.dial(node.address, peer_id=node.peer_id, timeout_s=5)
            await introduce(connection, stranger.peer_id)
            for opening, code in [
                (_opening(b"1" * 16, "f" * 64, Span(0, 2)), ErrorCode.WRONG_MODEL),
                (_opening(b"2" * 16, manifest, Span(0, 3)), ErrorCode.WRONG_SPAN),
                (_opening(b"3" * 16, manifest, Span(0, 2), max_tokens=10_000), ErrorCode.CONTEXT_FULL),
            ]:
                stream = await connection.open_stream()
                await stream.send(encode_message(opening))
                frame = await stream.receive()
                assert frame is not None
                refused = decode_message(frame)
                assert isinstance(refused, Refused)
                assert refused.code == code
            await stranger.aclose()
            swarm.assert_nothing_leased()

    asyncio.run(scenario())


def _opening(session: bytes, manifest: str, span: Span, *, max_tokens: int = 10) -> OpenSession:
    return OpenSession(session=session, manifest=manifest, span=span, batch=1, max_tokens=max_tokens)  # type: ignore[arg-type]


def test_garbage_of_a_peer_ends_its_own_streams_only(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            node = swarm.nodes[0]
            manifest = node.status().models[0].manifest
            stranger = QuicTransport(Identity.generate(), LOOPBACK)
            connection = await stranger.dial(node.address, peer_id=node.peer_id, timeout_s=5)
            await introduce(connection, stranger.peer_id)
            step = Step(
                step=0,
                position=0,
                kind=StepKind.DECODE,
                output="token",
                tensor=TensorHeader("int32", (1, 1)),
            )
            for first in [
                Frame(0x77, {"nonsense": 1}, b"x" * 1000),
                Frame(0x20, {"session": 3}),
                encode_message(step, b"1234"),
                encode_message(OpenPush(session=b"?" * 16)),  # type: ignore[arg-type]
            ]:
                stream = await connection.open_stream()
                await stream.send(first)
            # A session that opens well, and then says nonsense.
            for number, body in enumerate([b"\xff\xff\xff\x7f", b"\0\0\0\0\0"]):
                stream = await connection.open_stream()
                await stream.send(encode_message(_opening(bytes([number]) * 16, manifest, Span(0, 4))))
                assert await stream.receive()
                await stream.send(encode_message(step, body))
                answer = await stream.receive()
                assert answer is not None
                assert isinstance(decode_message(answer), Refused)
            assert (await ask(node, PROMPT)).token_ids
            await stranger.aclose()
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_the_goodbye_of_a_node_is_heard_over_quic(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            for _ in range(5):
                leaving = await swarm.start(None, serves=False)
                await swarm.wait_ready()
                await swarm.stop(leaving)
                swarm.nodes.remove(leaving)
                # Far sooner than an announcement expires.
                await until(lambda: all(len(node.status().peers) == 2 for node in swarm.nodes))

    asyncio.run(scenario())


def test_a_request_that_asks_nothing_says_what_is_missing(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            with pytest.raises(BadInput, match="give either messages, or a prompt"):
                await collect(swarm.nodes[0], GenerateRequest())

    asyncio.run(scenario())


def test_a_model_that_cannot_be_served_stops_the_node(tiny_llama: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_llama.iterdir():
        data = file.read_bytes()
        cut = len(data) // 2 if file.suffix == ".safetensors" else len(data)
        (broken / file.name).write_bytes(data[:cut])

    async def run(model: str, span: Span | None) -> None:
        from gridnode.config import NodeConfig

        config = NodeConfig(model=model, blocks=span, listen=LOOPBACK, state_dir=tmp_path / "state")
        await Node(config).run()

    for model, span, text in [
        (str(broken), None, r"cannot read .*model.*safetensors \(\d+ bytes\)"),
        (str(tmp_path / "nowhere"), None, "there is no model at"),
        (str(tiny_llama), Span(2, 9), "blocks 2:9 asked for, .* has blocks 0:4"),
    ]:
        with pytest.raises(GridError, match=text):
            asyncio.run(run(model, span))


def test_no_task_is_left_when_a_node_stops(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, HALVES) as swarm:
            await ask(swarm.nodes[0], PROMPT)
            pids = [node.status().engine.pid for node in swarm.nodes]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not [pid for pid in pids if psutil.pid_exists(pid or 0)]

    asyncio.run(scenario())
