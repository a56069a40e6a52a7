"""Serving blocks: the sessions in which this node is a hop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from gridnode.control.status_schema import SessionStatus
from gridnode.core.announcements import Serving
from gridnode.core.ids import PeerId, SessionId, short
from gridnode.errors import (
    ConnectionClosed,
    ContextFull,
    EngineLost,
    ErrorCode,
    GridError,
    NoCapacity,
    PeerLost,
    PeerRefused,
    ProtocolError,
    SessionIdle,
    WrongModel,
    WrongSpan,
)
from gridnode.net.transport import Stream
from gridnode.node.engine_supervisor import EngineSupervisor, StepOutput
from gridnode.node.hop_session import HopSession
from gridnode.node.links import Links
from gridnode.node.queue_gauge import QueueGauge
from gridnode.node.refusal import refuse
from gridnode.node.session_places import SessionPlaces
from gridnode.node.uplink import Uplink
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame
from gridnode.wire.messages import (
    MAX_HOPS,
    Backward,
    Gradient,
    HopTrace,
    NextHop,
    OpenPush,
    OpenSession,
    SessionOpened,
    Step,
    StepKind,
    StepResult,
    expect_message,
)

logger = logging.getLogger("gridnode.node.block_server")

# A push stream may overtake the OpenSession of its session by the difference of two routes.
PUSH_PATIENCE_S = 5.0


class BlockServer:
    """Serves the span of this node to clients and to previous hops.

    Args:
        serving: Returns what this node serves now, or None while nothing is loaded.
        max_sessions: Sessions that are served at once; `places.limit` changes it.
        session_ttl_s: Sessions end that have sent no step for so long; their clients may open them again.
        uplink: What results and hidden states wait for.
        on_refused: Called with the client and the reason when a session is refused or ends by an error.
    """

    def __init__(
        self,
        engine: EngineSupervisor,
        links: Links,
        *,
        serving: Callable[[], Serving | None],
        max_sessions: int,
        session_ttl_s: float,
        uplink: Uplink,
        on_refused: Callable[[PeerId, GridError], None] = lambda client, error: None,
    ) -> None:
        self._on_refused = on_refused
        self._engine = engine
        self._links = links
        self._serving = serving
        self.places = SessionPlaces(max_sessions)
        self._session_ttl_s = session_ttl_s
        self._uplink = uplink
        self._sessions: dict[SessionId, HopSession] = {}
        self._opened = asyncio.Condition()
        self.computed_tokens = dict.fromkeys(StepKind, 0)
        """Tokens of every kind of step that came through the blocks here."""

        self.computed_block_tokens = 0
        """Tokens times the blocks that they went through here."""

        self._gauge = QueueGauge(now=asyncio.get_running_loop().time())

    @property
    def queued_steps(self) -> float:
        """Steps that were here at once on average lately."""
        return self._gauge.average(now=asyncio.get_running_loop().time())

    def sessions(self) -> tuple[SessionStatus, ...]:
        """Return the sessions in which this node is a hop now, in the words of the door."""
        now = asyncio.get_running_loop().time()
        return tuple(session.status(now=now) for session in self._sessions.values())

    async def serve_session(
        self, stream: Stream, opening: OpenSession, body: bytes | bytearray | memoryview = b""
    ) -> None:
        """Take part in a session until the client ends its stream, or a step fails.

        Args:
            body: The tensors of `OpenSession.tuning`.

        Cancelling frees the lease and ends the push stream; so does the loss of the client's stream,
        also in the middle of a step.
        """
        try:
            async with asyncio.TaskGroup() as group:
                lost = group.create_task(_raise_when_lost(stream), name="client")
                self._check(opening)
                with contextlib.ExitStack() as place:
                    place.enter_context(self.places.take(opening.session))
                    async with self._leased(stream, opening, body, group, place) as session:
                        free = self._serving_now().free_cache_tokens
                        await stream.send(encode_message(SessionOpened(free_cache_tokens=free)))
                        await self._take_steps(session, stream)
                lost.cancel()
        except* PeerLost as errors:
            logger.debug("session %s: %s", opening.session.hex()[:8], errors.exceptions[0])
        except* GridError as errors:
            error = errors.exceptions[0]
            assert isinstance(error, GridError)
            logger.info("session %s: %s", opening.session.hex()[:8], error)
            self._on_refused(stream.connection.peer_id, error)
            await refuse(stream, error)
        finally:
            stream.finish()

    async def _take_steps(self, session: HopSession, stream: Stream) -> None:
        """Compute the steps of a session until its client ends it.

        Raises:
            SessionIdle: none came for too long, neither from the client nor from the previous hop.
        """
        try:
            async with session.patience:
                while (frame := await stream.receive()) is not None:
                    await self._handle(session, expect_message(frame, Step), frame)
        except TimeoutError:
            if not session.patience.expired():
                raise
            text = f"no step came for {self._session_ttl_s:g} s; the session's KV cache is for others now"
            raise SessionIdle(text) from None

    async def serve_backward(
        self, stream: Stream, request: Backward, body: bytes | bytearray | memoryview
    ) -> None:
        """Answer a request for a gradient. Training holds no lease, and yields to sessions.

        The loss of the client's stream gives up the gradient, unless it is being computed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                lost = group.create_task(_raise_when_lost(stream), name="client")
                _check_served(self._serving_now(), request)
                output = await self._engine.backward(request.span, request.each, body, tuning=request.tuning)
                batch, num_tokens = request.each.shape[:2]
                self.computed_block_tokens += batch * num_tokens * len(request.span)
                await self._uplink.wait_turn(stream.connection.peer_id, len(output.body))
                found = Gradient(tensor=output.tensor, behind_bytes=request.tuning.num_bytes)
                await stream.send(encode_message(found, output.body))
                lost.cancel()
        except* PeerLost:
            pass  # nobody waits for it any more
        except* GridError as errors:
            error = errors.exceptions[0]
            assert isinstance(error, GridError)
            logger.info("a gradient for %s: %s", short(stream.connection.peer_id), error)
            await refuse(stream, error)
        finally:
            stream.finish()

    async def serve_push(self, stream: Stream, opening: OpenPush) -> None:
        """Take the steps of a session from the previous hop, until it ends the stream.

        A step that fails is answered on the client's stream: the client decides what to do.
        """
        peer_id = stream.connection.peer_id
        session = await self._expected(opening.session, peer_id)
        try:
            while (frame := await stream.receive()) is not None:
                await self._handle(session, expect_message(frame, Step), frame)
        except PeerLost as exc:
            await refuse(session.client, _lost(peer_id, exc))
        except ConnectionClosed:
            pass  # the client has ended the session
        except GridError as exc:
            await refuse(session.client, exc)
            raise
        finally:
            stream.reset()

    async def _expected(self, session_id: SessionId, peer_id: PeerId) -> HopSession:
        """Return the session that `peer_id` may push to; wait a little for its client.

        Raises:
            ProtocolError: no client opened such a session, or it named another previous hop.
        """
        try:
            async with asyncio.timeout(PUSH_PATIENCE_S), self._opened:
                await self._opened.wait_for(lambda: session_id in self._sessions)
        except TimeoutError as exc:
            raise ProtocolError(f"{short(peer_id)} pushes to an unknown session") from exc
        session = self._sessions[session_id]
        if session.opening.previous != peer_id:
            raise ProtocolError(f"{short(peer_id)} pushes to a session of other hops")
        return session

    def _serving_now(self) -> Serving:
        serving = self._serving()
        if serving is None:
            raise NoCapacity("this node is not serving any blocks now; choose another, or try again later")
        return serving

    def _check(self, opening: OpenSession) -> None:
        serving = self._serving_now()
        _check_served(serving, opening)
        if opening.max_tokens > serving.max_session_tokens:
            raise ContextFull(opening.max_tokens, serving.max_session_tokens)

    @contextlib.asynccontextmanager
    async def _leased(
        self,
        stream: Stream,
        opening: OpenSession,
        body: bytes | bytearray | memoryview,
        tasks: asyncio.TaskGroup,
        place: contextlib.ExitStack,
    ) -> AsyncIterator[HopSession]:
        """Hold a lease and the link to the next hop for as long as the session lasts, and its place."""
        serving = self._serving_now()
        lease = await self._engine.open_lease(
            opening.span,
            batch=opening.batch,
            max_tokens=opening.max_tokens,
            wait_s=opening.wait_s,
            tuning=opening.tuning,
            body=body,
        )
        now = asyncio.get_running_loop().time()
        loaded = self._engine.loaded
        assert loaded is not None  # it has granted the lease
        session = HopSession(
            opening,
            stream,
            tasks,
            lease,
            loaded.kv_bytes_per_token * opening.batch * opening.max_tokens * len(opening.span),
            serving,
            opened_at=now,
            stepped_at=now,
            patience=asyncio.timeout(self._session_ttl_s),
        )
        try:
            if opening.next_hop is not None:
                await self._reach(opening.next_hop)
            async with self._opened:
                self._sessions[opening.session] = session
                self._opened.notify_all()
            yield session
        finally:
            session.is_open = False
            if session.sending is not None:
                session.sending.cancel()
            self._sessions.pop(opening.session, None)
            if session.push is not None:
                session.push.finish()
            place.close()  # the worker may be in the middle of a chunk; the next session asks it behind us
            with contextlib.suppress(EngineLost):  # the lease died with the worker
                await self._engine.close_lease(lease)

    async def _reach(self, next_hop: NextHop) -> None:
        """Dial the next hop before the first step needs it."""
        try:
            await self._links.connect(next_hop.peer_id, next_hop.addresses)
        except (PeerLost, ConnectionClosed) as exc:
            raise _lost(next_hop.peer_id, exc) from exc

    async def _handle(self, session: HopSession, step: Step, frame: Frame) -> None:
        """Compute one step and send the result on."""
        self._gauge.come(now=asyncio.get_running_loop().time())
        try:
            await self._compute(session, step, frame)
        finally:
            self._gauge.go(now=asyncio.get_running_loop().time())

    async def _compute(self, session: HopSession, step: Step, frame: Frame) -> None:
        clock = asyncio.get_running_loop().time
        arrived_at = clock()
        async with session.lock:
            if not session.is_open:
                raise ConnectionClosed("the session was closed while a step of it was on its way")
            session.patience.reschedule(None)
            is_last = session.opening.next_hop is None
            output = await self._engine.step(
                session.lease,
                frame.body,
                step.tensor,
                position=step.position,
                parents=step.parents,
                output=step.output if is_last else "hidden",
                sampling=session.opening.sampling if is_last else None,
                history=step.history if is_last else (),
            )
            # Token ids are [batch, tokens], hidden states [batch, tokens, hidden_size].
            batch, num_tokens = step.tensor.shape[:2]
            self.computed_tokens[step.kind] += batch * num_tokens
            self.computed_block_tokens += batch * num_tokens * len(session.opening.span)
            session.position, session.stepped_at = step.position + num_tokens, clock()
            if session.is_open:
                session.patience.reschedule(session.stepped_at + self._session_ttl_s)
            await session.wait_sent()
            sending = self._send_on(session, step, output, len(frame.body), clock() - arrived_at)
            if step.kind is StepKind.PREFILL:
                session.send_later(sending)
            else:
                await sending

    async def _send_on(
        self,
        session: HopSession,
        step: Step,
        output: StepOutput,
        received_bytes: int,
        elapsed_s: float,
    ) -> None:
        """Push hidden states to the next hop; answer the client at the last one."""
        if len(step.trace) >= MAX_HOPS:
            raise ProtocolError(f"a step has passed {MAX_HOPS} hops")
        trace = (
            *step.trace,
            HopTrace(
                compute_s=output.compute_s,
                hop_s=elapsed_s,
                received_bytes=received_bytes,
                sent_bytes=len(output.body),
            ),
        )
        if session.opening.next_hop is None:
            result = StepResult(step=step.step, tensor=output.tensor, trace=trace)
            await self._uplink.wait_turn(session.client.connection.peer_id, len(output.body))
            await session.client.send(encode_message(result, output.body))
        else:
            await self._push(
                session, session.opening.next_hop, replace(step, tensor=output.tensor, trace=trace), output
            )

    async def _push(self, session: HopSession, next_hop: NextHop, step: Step, output: StepOutput) -> None:
        """Send `step` with the hidden states of `output` to the next hop.

        Raises:
            PeerRefused: the next hop is gone; named, because the client has no other way to know which.
        """
        try:
            if session.push is None:
                connection = await self._links.connect(next_hop.peer_id, next_hop.addresses)
                session.push = await connection.open_lane()
                await session.push.send(encode_message(OpenPush(session=session.opening.session)))
            await self._uplink.wait_turn(next_hop.peer_id, len(output.body))
            await session.push.send(encode_message(step, output.body))
        except (PeerLost, ConnectionClosed) as exc:
            if not session.is_open:
                raise  # by its client, and nobody is to blame
            raise _lost(next_hop.peer_id, exc) from exc  # also a link that this node gives up


def _check_served(serving: Serving, wanted: OpenSession | Backward) -> None:
    if wanted.manifest != serving.model.manifest:
        raise WrongModel(f"{serving.model} is served here, not the weights {wanted.manifest[:12]}")
    if wanted.span not in serving.span:
        raise WrongSpan(f"blocks {serving.span} are served here, not {wanted.span}")
    adapter = wanted.tuning.adapter
    if adapter and adapter not in serving.adapters:
        hosted = ", ".join(serving.adapters) or "none"
        raise WrongModel(f"the adapter {adapter!r} is not hosted here; hosted: {hosted}")


def _lost(peer_id: PeerId, error: PeerLost | ConnectionClosed) -> PeerRefused:
    text = f"node {short(peer_id)} is gone: {error}"
    return PeerRefused(text, reason=ErrorCode.PEER_LOST, peer_id=peer_id)


async def _raise_when_lost(stream: Stream) -> None:
    """Raise `PeerLost` once the client dropped its stream: a task group ends with it."""
    await stream.wait_lost()
    raise PeerLost("the client dropped its stream")
