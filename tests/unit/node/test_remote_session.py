"""The client's side of sessions: over a network in memory, with hops that answer what a test lets them."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from plain_links import plain_links

from gridnode.core.ids import ModelId, PeerId
from gridnode.core.routing import Hop, Route
from gridnode.core.spans import Span
from gridnode.errors import ErrorCode, PeerLost, PeerRefused
from gridnode.net.memory import MemoryNetwork
from gridnode.net.transport import Stream
from gridnode.node import remote_session
from gridnode.node.remote_session import RemoteSession, SessionPlan, StepOutcome
from gridnode.node.session_opener import is_survivable
from gridnode.wire.codec import TypedMessage, encode_message
from gridnode.wire.credit import CREDIT_BYTES
from gridnode.wire.frames import Frame
from gridnode.wire.messages import (
    HopTrace,
    OpenSession,
    Output,
    Refused,
    SessionOpened,
    Step,
    StepKind,
    StepResult,
    expect_message,
)
from gridnode.wire.tensors import DType, TensorHeader

CLIENT, FIRST, LAST = PeerId(b"c" * 32), PeerId(b"f" * 32), PeerId(b"l" * 32)
ROUTE = Route((Hop(FIRST, Span(0, 2)), Hop(LAST, Span(2, 4))))
TRACE = (HopTrace(compute_s=0.1, hop_s=0.2, received_bytes=4, sent_bytes=4),) * 2
OPENED = SessionOpened(free_cache_tokens=0)
TWO_TOKENS = TensorHeader("int32", (1, 2))

Answer = Callable[[Step], Frame]


def result(
    step: Step, dtype: DType, *shape: int, trace: tuple[HopTrace, ...] = TRACE, byte: bytes = b"\0"
) -> Frame:
    """Return what a hop answers with a tensor of which every byte is the same."""
    tensor = TensorHeader(dtype, shape)
    return encode_message(StepResult(step=step.step, tensor=tensor, trace=trace), byte * tensor.num_bytes)


def token(step: Step) -> Frame:
    """Return a proper answer."""
    return result(step, "int32", 1)


@asynccontextmanager
async def session(
    answer: Answer = token, *, answers_from: PeerId = LAST, opened: TypedMessage = OPENED, reads: bool = True
) -> AsyncIterator[RemoteSession]:
    """Open a session of two hops: steps come to the first one, answers from any of them."""
    steps: asyncio.Queue[Step] = asyncio.Queue()

    async def serve(me: PeerId, stream: Stream) -> None:
        expect_message(await stream.receive(), OpenSession)
        await stream.send(encode_message(opened))
        async with asyncio.TaskGroup() as group:
            if me == FIRST and reads:
                group.create_task(hear(stream))
            if me == answers_from:
                group.create_task(say(stream))
            await stream.wait_lost()

    async def hear(stream: Stream) -> None:
        with contextlib.suppress(PeerLost):
            while True:
                steps.put_nowait(expect_message(await stream.receive(), Step))

    async def say(stream: Stream) -> None:
        while True:
            await stream.send(answer(await steps.get()))

    network = MemoryNetwork()
    async with (
        plain_links(network, CLIENT) as client,
        plain_links(network, FIRST, on_stream=lambda stream: serve(FIRST, stream)) as first,
        plain_links(network, LAST, on_stream=lambda stream: serve(LAST, stream)) as last,
    ):
        plan = SessionPlan(model=ModelId("tiny", "a" * 64), route=ROUTE, max_tokens=100)
        addresses = {hop.peer_id: (hop.address,) for hop in (first, last)}
        async with asyncio.timeout(20), RemoteSession(client.links, plan, addresses=addresses) as opened_one:
            yield opened_one


async def run(
    hops: RemoteSession, output: Output = "token", *, position: int = 0, tensor: TensorHeader = TWO_TOKENS
) -> StepOutcome:
    """Run one step."""
    kind = StepKind.DECODE
    return await hops.step(bytes(tensor.num_bytes), tensor, position=position, kind=kind, output=output)


def blamed(
    answer: Answer, output: Output = "token", *, num_steps: int = 1, **of_session: object
) -> PeerRefused:
    """Return the error of a step that gets `answer`: one that another hop may mend."""

    async def scenario() -> PeerRefused:
        async with session(answer, **of_session) as hops:  # type: ignore[arg-type]
            for i in range(num_steps - 1):
                await run(hops, output, position=2 * i)
            with pytest.raises(PeerRefused) as caught:
                await run(hops, output, position=2 * num_steps - 2)
            return caught.value

    error = asyncio.run(scenario())
    assert error.reason is ErrorCode.PROTOCOL
    assert is_survivable(error)
    return error


@pytest.mark.parametrize(
    ("output", "dtype", "shape"),
    [
        ("none", "int32", (0,)),
        ("token", "int32", (1,)),
        ("tokens", "int32", (1, 2)),
        ("likelihoods", "float32", (1, 2)),
        ("logits", "float32", (1, 1, 7)),
        ("all_logits", "float32", (1, 2, 7)),
        ("hidden", "bfloat16", (1, 2, 7)),
        ("normed", "float32", (1, 2, 7)),
    ],
)
def test_what_was_asked_for_is_taken_and_nothing_else(
    output: Output, dtype: DType, shape: tuple[int, ...]
) -> None:
    async def scenario() -> None:
        async with session(lambda step: result(step, dtype, *shape)) as hops:
            for i in range(2):
                outcome = await run(hops, output, position=2 * i)
                assert outcome.tensor == TensorHeader(dtype, shape)

    asyncio.run(scenario())
    for other in [(), (*shape, 1), (shape[0] + 1, *shape[1:])]:
        error = blamed(lambda step, other=other: result(step, dtype, *other), output)  # type: ignore[misc]
        assert error.peer_id == LAST
        assert output in str(error)
    another: DType = "int32" if dtype != "int32" else "float32"
    assert blamed(lambda step: result(step, another, *shape), output).peer_id == LAST


def test_logits_are_as_wide_as_those_before() -> None:
    error = blamed(lambda step: result(step, "float32", 1, 1, 7 - step.step), "logits", num_steps=2)
    assert "1x1x6" in str(error)
    assert "1x1x7" in str(error)


def test_hidden_states_are_as_wide_as_those_that_were_sent() -> None:
    async def scenario() -> None:
        async with session(lambda step: result(step, "float32", 1, 2, 7)) as hops:
            with pytest.raises(PeerRefused, match="1x2x8"):
                await run(hops, "hidden", tensor=TensorHeader("float32", (1, 2, 8)))

    asyncio.run(scenario())


@pytest.mark.parametrize("num_hops", [0, 1, 3])
def test_a_result_tells_of_every_hop(num_hops: int) -> None:
    error = blamed(lambda step: result(step, "int32", 1, trace=TRACE[:1] * num_hops))
    assert f"tells of {num_hops} hops, the session has 2" in str(error)
    assert error.peer_id == LAST


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_a_hop_took_is_a_time(value: float) -> None:
    def lie(step: Step) -> Frame:
        frame = token(step)
        frame.header["trace"][1]["hop_s"] = value
        return frame

    assert blamed(lie).peer_id == LAST


def test_a_token_id_is_not_negative() -> None:
    assert "negative" in str(blamed(lambda step: result(step, "int32", 1, byte=b"\xff")))


def test_only_the_last_hop_answers() -> None:
    assert blamed(token, answers_from=FIRST).peer_id == FIRST


@pytest.mark.parametrize(
    ("named", "avoided"),
    [(None, LAST), (FIRST, FIRST), (PeerId(bytes(32)), LAST)],
    ids=["nobody", "hop", "stranger"],
)
def test_a_hop_may_blame_another_hop_of_the_route_and_nobody_else(
    named: PeerId | None, avoided: PeerId
) -> None:
    """Who is not avoided is asked again: a stranger's name would bring the same route for ever."""
    refusal = Refused(code=ErrorCode.PROTOCOL, text="no", blamed=named)
    assert blamed(lambda _: encode_message(refusal)).peer_id == avoided


def test_another_message_than_a_result_is_laid_to_its_hop() -> None:
    assert blamed(lambda step: encode_message(OPENED)).peer_id == LAST
    assert blamed(lambda step: Frame(0x7F)).peer_id == LAST


def test_another_message_than_that_a_session_is_open_is_laid_to_its_hop() -> None:
    async def scenario() -> None:
        with pytest.raises(PeerRefused, match="where SessionOpened was expected") as caught:
            async with session(opened=StepResult(step=0, tensor=TensorHeader("int32", (0,)))):
                pass
        assert caught.value.peer_id == FIRST
        assert is_survivable(caught.value)

    asyncio.run(scenario())


def test_a_first_hop_that_takes_no_more_steps_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_session, "STEP_TIMEOUT_S", 0.2)
    tensor = TensorHeader("int32", (1, CREDIT_BYTES // 4))

    async def scenario() -> None:
        async with session(reads=False) as hops:
            unanswered, unsent = await asyncio.gather(
                *(run(hops, "none", tensor=tensor) for _ in range(2)), return_exceptions=True
            )
            assert isinstance(unanswered, PeerLost)
            assert isinstance(unsent, PeerRefused)
            assert (unsent.reason, unsent.peer_id) == (ErrorCode.TIMEOUT, FIRST)

    asyncio.run(scenario())


def test_a_step_that_waits_to_be_sent_when_a_hop_fails_tells_of_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody asks for the answer any more; that it has failed is not reported as an error of ours."""
    monkeypatch.setattr(remote_session, "STEP_TIMEOUT_S", 0.2)
    tensor = TensorHeader("int32", (1, CREDIT_BYTES // 4))

    async def scenario() -> None:
        async with session(reads=False) as hops:
            sending = [asyncio.create_task(run(hops, "none", tensor=tensor)) for _ in range(2)]
            await asyncio.sleep(0)
            hops._fail(failure)
            outcomes = await asyncio.gather(*sending, return_exceptions=True)
            assert outcomes == [failure, failure]

    failure = PeerRefused("gone", reason=ErrorCode.PEER_LOST, peer_id=LAST)
    asyncio.run(scenario())


@pytest.mark.parametrize("given_up", [FIRST, LAST])
def test_a_link_that_this_node_gives_up_is_a_lost_hop(given_up: PeerId) -> None:
    """As when the peer is linked twice, or says goodbye on another link: the answer goes on elsewhere."""

    async def scenario() -> PeerRefused:
        async with session() as hops:
            await run(hops)
            link = hops._links.connections()[given_up]
            await link.aclose()
            with pytest.raises(PeerRefused, match="closed by this side") as caught:
                await run(hops, position=2)
            return caught.value

    error = asyncio.run(scenario())
    assert (error.reason, error.peer_id) == (ErrorCode.PEER_LOST, given_up)
    assert is_survivable(error)
