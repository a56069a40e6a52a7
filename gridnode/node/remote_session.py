"""The client's side of a session: hops opened together, steps sent to the first, answers from the last."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from gridnode.core.addresses import Address
from gridnode.core.ids import ModelId, PeerId, SessionId
from gridnode.core.routing import Hop, Route
from gridnode.core.sampling import SamplingParams
from gridnode.engine.tuned_tensors import NOTHING_ADDED, Added
from gridnode.errors import ConnectionClosed, ErrorCode, GridError, PeerLost, ProtocolError
from gridnode.net.transport import Stream
from gridnode.node.answer_check import AnswerCheck
from gridnode.node.blame import blame, gone, nonsense, refused
from gridnode.node.links import Links
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import (
    HopTrace,
    Message,
    NextHop,
    OpenSession,
    Output,
    Refused,
    SessionOpened,
    Step,
    StepKind,
    StepResult,
    decode_message,
)
from gridnode.wire.tensors import TensorHeader

# Leasing KV cache takes microseconds; a hop that is busy answers between two chunks of a prompt.
OPEN_TIMEOUT_S = 15.0
# The slowest useful hop: one chunk of a prompt through a large span on an old computer.
STEP_TIMEOUT_S = 300.0
# Whoever opens hop by hop holds nothing that those before it in a line wait for.
_WAIT_IN_ORDER_S = 0.5
# A step that takes so much longer than every one before it hangs somewhere: a factor, and the least time for
# decode steps and for chunks of a prompt, which a busy hop may let wait for those of others.
PATIENCE = 20.0
MIN_DECODE_TIMEOUT_S = 15.0
MIN_PREFILL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What came back from the last hop for one step."""

    tensor: TensorHeader
    body: bytes | bytearray | memoryview
    trace: tuple[HopTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """What is asked of every hop of a session."""

    model: ModelId
    route: Route
    max_tokens: int
    batch: int = 1
    sampling: SamplingParams | None = None
    added: Added = NOTHING_ADDED
    """To the blocks; each hop is told what is added to its own."""


class RemoteSession:
    """A session through the hops of a route. Use as an async context manager; closing frees every lease.

    Args:
        addresses: Where each hop of the route listens.
        in_order: Open one hop after the other instead of all at once.
        expected_step_s: What one token is expected to take through all hops; None if nobody knows.
        on_lap: Called with what the hops did, and the seconds from here to here, for every decode step
            that no other one followed.
        on_end: Called once when the session ends.
    """

    def __init__(
        self,
        links: Links,
        plan: SessionPlan,
        *,
        addresses: Mapping[PeerId, Sequence[Address]],
        in_order: bool = False,
        expected_step_s: float | None = None,
        on_lap: Callable[[Sequence[HopTrace], float], None] = lambda trace, lap_s: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.session_id = SessionId(secrets.token_bytes(16))
        self._links = links
        self._addresses = addresses
        self._in_order = in_order
        self._on_lap = on_lap
        self._on_end = on_end
        self._is_ended = False
        self._streams: dict[int, Stream] = {}
        """By number of the hop, as they are opened."""

        self._answered: set[int] = set()
        """Numbers of the hops that have opened the session."""

        self._listeners: list[asyncio.Task[None]] = []
        self._pending: dict[int, tuple[Step, asyncio.Future[StepOutcome]]] = {}
        self._check = AnswerCheck(len(plan.route.hops))
        self._failure: GridError | None = None
        self._num_steps = 0
        self._expected_step_s = expected_step_s
        self._slowest_s: dict[StepKind, float] = {}
        """What the slowest step of each kind took after the answer before it."""

        self._timeouts: dict[int, tuple[asyncio.Timeout, StepKind, int]] = {}
        """Of the steps under way: their patience, kind and tokens."""

        self._heard_at = 0.0
        """When the last answer came, on the loop's clock."""

    async def __aenter__(self) -> Self:
        """Open the session on all hops.

        Raises:
            PeerRefused: a hop refused or is gone; `reason` tells why, `peer_id` whom to avoid.
            PeerLost: a hop does not answer in time.
        """
        hops = self.plan.route.hops
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                if self._in_order:
                    for i in range(len(hops)):
                        await self._open(i)
                else:
                    await self._open_at_once()
            # Awaited in aclose: the readers of every hop's stream, for results and refusals.
            self._listeners = [
                asyncio.create_task(
                    self._listen(hop, self._streams[i]), name=f"session {self.session_id.hex()[:8]}"
                )
                for i, hop in enumerate(hops)
            ]
        except TimeoutError as exc:
            await self.aclose()
            silent = hops[min(set(range(len(hops))) - self._answered)]
            raise blame(
                silent, f"did not open the session in {OPEN_TIMEOUT_S:g} s", ErrorCode.TIMEOUT
            ) from exc
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def step(
        self,
        body: bytes,
        tensor: TensorHeader,
        *,
        position: int,
        kind: StepKind,
        output: Output,
        history: Sequence[int] = (),
    ) -> StepOutcome:
        """Run new tokens through every hop and return what the last one answers.

        Several calls may be under way: their steps follow each other through the hops.
        Cancelling drops the answer; the caches have grown all the same, so close the session
        or send the next step from the position before.

        Raises:
            PeerRefused: a hop answered with an error or with something else than was asked, took no step in
                time, or is gone.
            PeerLost: no answer came in time.
        """
        if self._failure is not None:
            raise self._failure
        number = self._num_steps
        self._num_steps += 1
        is_alone = not self._pending
        answer: asyncio.Future[StepOutcome] = asyncio.get_running_loop().create_future()
        num_tokens = tensor.shape[1]
        message = Step(
            step=number, position=position, kind=kind, output=output, tensor=tensor, history=tuple(history)
        )
        self._pending[number] = message, answer
        is_sent = False
        clock = asyncio.get_running_loop().time
        try:
            began_at = clock()
            async with asyncio.timeout(self._timeout_s(kind, num_tokens)) as timeout:
                self._timeouts[number] = (timeout, kind, num_tokens)
                await self._streams[0].send(encode_message(message, body))
                is_sent = True
                outcome = await answer
            took_s = self._heard(kind, began_at)
            if kind is StepKind.DECODE and is_alone and number + 1 == self._num_steps:
                self._on_lap(outcome.trace, took_s)
            return outcome
        except (PeerLost, ConnectionClosed) as exc:
            raise gone(self.plan.route.hops[0], exc) from exc  # it was not sent
        except ProtocolError as exc:  # of the stream, while it waits to be sent
            raise nonsense(self.plan.route.hops[0], exc) from exc
        except TimeoutError as exc:
            silence_s = clock() - max(began_at, self._heard_at)
            if self._failure is not None:
                raise self._failure from exc
            if not is_sent:
                what = f"took no step in {silence_s:.3g} s"
                raise blame(self.plan.route.hops[0], what, ErrorCode.TIMEOUT) from exc
            raise PeerLost(f"no answer from {self.plan.route} in {silence_s:.3g} s") from exc
        finally:
            self._timeouts.pop(number, None)
            del self._pending[number]

    def _timeout_s(self, kind: StepKind, num_tokens: int) -> float:
        """Return how long to wait for a step before the route counts as hanging."""
        usual_s = self._slowest_s.get(kind)
        if usual_s is None and self._expected_step_s is not None:
            usual_s = self._expected_step_s * num_tokens
        if usual_s is None:
            return STEP_TIMEOUT_S
        least_s = MIN_DECODE_TIMEOUT_S if kind is StepKind.DECODE else MIN_PREFILL_TIMEOUT_S
        return min(max(least_s, PATIENCE * usual_s), STEP_TIMEOUT_S)

    def _heard(self, kind: StepKind, began_at: float) -> float:
        """Take the news that a step ended, and be patient with the others; return the time that it took."""
        now = asyncio.get_running_loop().time()
        # Steps follow each other: this one may have waited for those before it.
        took_s = now - max(began_at, self._heard_at)
        self._heard_at = now
        self._slowest_s[kind] = max(took_s, self._slowest_s.get(kind, 0.0))
        self._extend_patience()
        return took_s

    def _extend_patience(self) -> None:
        """Begin to wait anew for every step under way: the hops do something."""
        for number, (timeout, kind, num_tokens) in self._timeouts.items():
            # A step whose answer is there already may not have noticed.
            if not timeout.expired() and not self._pending[number][1].done():
                timeout.reschedule(self._heard_at + self._timeout_s(kind, num_tokens))

    async def aclose(self) -> None:
        """Free the lease on every hop at once. Safe to call more than once."""
        if not self._is_ended:
            self._is_ended = True
            self._on_end()
        for stream in self._streams.values():
            stream.reset()
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _open_at_once(self) -> None:
        hops = self.plan.route.hops
        opened = await asyncio.gather(*(self._open(i) for i in range(len(hops))), return_exceptions=True)
        for outcome in opened:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _open(self, index: int) -> None:
        hops = self.plan.route.hops
        hop = hops[index]
        following = hops[index + 1] if index + 1 < len(hops) else None
        tuning, body = self.plan.added.packed(hop.span)
        opening = OpenSession(
            session=self.session_id,
            manifest=self.plan.model.manifest,
            span=hop.span,
            batch=self.plan.batch,
            max_tokens=self.plan.max_tokens,
            wait_s=_WAIT_IN_ORDER_S if self._in_order else 0.0,
            previous=hops[index - 1].peer_id if index else None,
            next_hop=self._next_hop(following) if following else None,
            sampling=self.plan.sampling if following is None else None,
            tuning=tuning,
        )
        try:
            connection = await self._links.connect(hop.peer_id, self._addresses.get(hop.peer_id, ()))
            self._streams[index] = stream = await connection.open_lane()
            await stream.send(encode_message(opening, body))
        except (PeerLost, ConnectionClosed) as exc:  # also a link that this node gives up
            raise gone(hop, exc) from exc
        message, _ = await self._receive(hop, stream)
        if not isinstance(message, SessionOpened):
            raise nonsense(hop, f"{type(message).__name__} came where SessionOpened was expected")
        self._answered.add(index)

    def _next_hop(self, hop: Hop) -> NextHop:
        return NextHop(peer_id=hop.peer_id, addresses=tuple(self._addresses.get(hop.peer_id, ())))

    async def _listen(self, hop: Hop, stream: Stream) -> None:
        """Take the results and refusals of one hop until its stream ends."""
        try:
            while True:
                message, body = await self._receive(hop, stream)
                self._take(hop, message, body)
        except GridError as exc:
            self._fail(exc)

    async def _receive(self, hop: Hop, stream: Stream) -> tuple[Message, bytes | bytearray | memoryview]:
        """Return what a hop says next, and its body.

        Raises:
            PeerRefused: it refuses to go on, sent nonsense, or is gone.
        """
        try:
            frame = await stream.receive()
            if frame is None:
                raise PeerLost("it ended the session")
            message = decode_message(frame)
        except (PeerLost, ConnectionClosed) as exc:
            raise gone(hop, exc) from exc
        except ProtocolError as exc:
            raise nonsense(hop, exc) from exc
        if isinstance(message, Refused):
            raise refused(hop, message, self.plan.route.hops)
        return message, frame.body

    def _take(self, hop: Hop, message: Message, body: bytes | bytearray | memoryview) -> None:
        if not isinstance(message, StepResult) or hop is not self.plan.route.hops[-1]:
            raise nonsense(hop, f"it sent {type(message).__name__} in a session")
        step, answer = self._pending.get(message.step, (None, None))
        if step is None or answer is None or answer.done():
            return  # nobody waits for it any more
        try:
            self._check.check(step, message, body)
        except ProtocolError as exc:
            raise nonsense(hop, exc) from exc
        answer.set_result(StepOutcome(tensor=message.tensor, body=body, trace=message.trace))

    def _fail(self, error: GridError) -> None:
        """End every step under way and refuse new ones: a session with a lost hop is over."""
        self._failure = self._failure or error
        for _, answer in self._pending.values():
            if not answer.done():
                answer.set_exception(self._failure)
                answer.exception()  # a step that waits to be sent never looks
