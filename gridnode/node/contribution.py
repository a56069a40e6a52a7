"""What this node gives to the swarm: the blocks it serves. Chosen, loaded, served, paused and drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from gridnode.config import NodeConfig
from gridnode.control.status_schema import EngineStatus, SessionStatus
from gridnode.core.announcements import PeerState, Serving
from gridnode.core.ids import ModelId, PeerId
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import EngineConfig
from gridnode.errors import GridError, NoCapacity
from gridnode.net.cancellation import raise_if_cancelled
from gridnode.net.transport import Stream
from gridnode.node.balancer import settle
from gridnode.node.block_server import BlockServer
from gridnode.node.engine_supervisor import EngineState, EngineSupervisor
from gridnode.node.links import Links
from gridnode.node.membership import Membership
from gridnode.node.pausing import Pausing
from gridnode.node.refusal import refuse
from gridnode.node.uplink import Uplink
from gridnode.wire.messages import Backward, OpenPush, OpenSession, StepKind

logger = logging.getLogger("gridnode.node.contribution")

# A node that still loads takes part in placement with the speed of an old computer.
UNMEASURED_BLOCK_S = 0.005
# Free cache is announced at once when it moved by this share of the whole, otherwise regularly.
ANNOUNCED_CACHE_SHARE = 0.125
# How long sessions may take to move to other nodes before a pause ends them.
PAUSE_DRAIN_S = 30.0


class Contribution:
    """The blocks that this node serves. Run it once, with `run`.

    Args:
        expects_news: Returns whether others may be about to tell what they serve.
        on_text: Called with the model and the directory of its tokenizer once they are known.
        on_change: Called after every change of the engine or of `state`.
        on_refused: As that of `BlockServer`.
    """

    def __init__(
        self,
        config: NodeConfig,
        me: PeerId,
        links: Links,
        membership: Membership,
        *,
        uplink: Uplink,
        expects_news: Callable[[], bool],
        on_text: Callable[[ModelId, Path], None],
        on_change: Callable[[], None],
        on_refused: Callable[[PeerId, GridError], None],
    ) -> None:
        self.engine: EngineSupervisor | None = None
        self.block_server: BlockServer | None = None
        self._config = config
        self._me = me
        self._links = links
        self._membership = membership
        self._uplink = uplink
        self._expects_news = expects_news
        self._on_text = on_text
        self._on_change = on_change
        self._on_refused = on_refused
        self._serving: Serving | None = None
        self._location = config.model
        self._given = asyncio.Event()
        self._on_failed: Callable[[GridError], None] | None = None
        self._announced: tuple[PeerState, int, str] | None = None
        self.pausing = Pausing(on_change=self._announce_if_moved)
        self._is_leaving = False
        self._past_tokens: Counter[StepKind] = Counter()
        self._past_block_tokens = 0

    @property
    def state(self) -> PeerState:
        """What this node is doing, as it announces it."""
        if self._is_leaving or (self.pausing.reason and self.engine):
            return PeerState.LEAVING
        if self.pausing.reason:
            return PeerState.PAUSED
        if not self._location:
            return PeerState.ONLINE
        engine = self.engine
        is_ready = engine is not None and engine.state is EngineState.READY and engine.loaded is not None
        return PeerState.ONLINE if is_ready else PeerState.JOINING

    @property
    def free_cache_tokens(self) -> int:
        """Tokens of KV cache that could be leased here now."""
        return self.engine.free_cache_tokens if self.engine else 0

    @property
    def total_cache_tokens(self) -> int:
        """Tokens of KV cache that this node has for sessions."""
        return self._config.cache_tokens if self.engine else 0

    @property
    def served_block_tokens(self) -> int:
        """Tokens times the blocks that they went through here."""
        now = self.block_server.computed_block_tokens if self.block_server else 0
        return self._past_block_tokens + now

    @property
    def computed_tokens(self) -> Mapping[StepKind, int]:
        """Tokens of every kind of step that came through the blocks here."""
        return self._past_tokens + Counter(self.block_server.computed_tokens if self.block_server else {})

    async def run(self) -> None:
        """Serve the blocks that this node was told, or chooses, until cancelled.

        Raises:
            BadCheckpoint, BadInput: the model that it was told cannot be served.
            NoCapacity: not one block of it fits into the memory budget.
        """
        self._announce_if_moved()
        while True:
            if not self._location:
                await self._given.wait()
            await self.pausing.wait_resumed()
            try:
                await self._serve_until_paused()
            except GridError as exc:
                if self._on_failed is None:
                    raise  # whoever started this node named the model, and reads this
                raise_if_cancelled()
                logger.warning("%s cannot be served here: %s", self._location, exc)
                self._on_failed(exc)
                self._location, self._on_failed = "", None
                self._given.clear()
            self._forget_blocks()

    async def _serve_until_paused(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._serve(), name="engine")
                await self._wait_paused()
                serving.cancel()
        except* GridError as errors:
            raise errors.exceptions[0] from None

    @property
    def location(self) -> str:
        """Directory, file or Hub id of the model that is served here; empty if none is."""
        return self._location

    def take(self, location: str, *, on_failed: Callable[[GridError], None]) -> None:
        """Begin to serve the model at `location`; this node must serve none so far.

        Args:
            on_failed: Called if it cannot be served; then this node serves none again.
        """
        assert not self._location
        logger.info("somebody asks for %s, which is on this computer: loading it", location)
        self._location, self._on_failed = location, on_failed
        self._given.set()
        self._announce_if_moved()

    def reconfigure(self, config: NodeConfig) -> None:
        """Take over from `config` what may change while blocks are served."""
        self._config = config
        if self.block_server is not None:
            self.block_server.places.limit = config.sessions

    async def leave(self, timeout_s: float) -> int:
        """Take nothing new and wait until the sessions here have moved away or ended.

        Returns:
            The sessions that are left after `timeout_s`.
        """
        self._is_leaving = True
        self._announce_if_moved()
        await self._wait_idle(timeout_s)
        return len(self.sessions())

    def sessions(self) -> tuple[SessionStatus, ...]:
        """Return the sessions in which this node is a hop."""
        return self.block_server.sessions() if self.block_server else ()

    def announced(self) -> Serving | None:
        """Return what this node serves, to be announced now."""
        self._announced = (self.state, self.free_cache_tokens, self.pausing.reason)
        return self.described()

    def described(self) -> Serving | None:
        """Return what this node serves, with its present figures."""
        engine, serving = self.engine, self._serving
        if serving is None or engine is None or engine.loaded is None:
            return serving
        return replace(
            serving,
            has_embeddings=engine.loaded.has_embeddings,
            has_head=engine.loaded.has_head,
            max_session_tokens=engine.loaded.max_session_tokens,
            free_cache_tokens=engine.free_cache_tokens,
            decode_block_s=engine.loaded.decode_block_s,
            adapters=engine.loaded.adapters,
            total_cache_tokens=self._config.cache_tokens,
            open_sessions=len(self.sessions()),
            queued_steps=self.block_server.queued_steps if self.block_server else 0.0,
        )

    def loading(self) -> tuple[int, int]:
        """Return how many blocks are loaded of how many; zeros unless some are being loaded."""
        engine = self.engine_status()
        return (0, 0) if engine.state == "ready" else (engine.loaded_blocks, engine.wanted_blocks)

    def engine_status(self) -> EngineStatus:
        """Return what the engine worker is doing, in the words of the door."""
        engine = self.engine
        if engine is None:
            return EngineStatus(state="none")
        progress, loaded = engine.progress, engine.loaded
        return EngineStatus(
            state=engine.state.value,
            pid=engine.pid,
            detail=engine.detail,
            loaded_blocks=len(engine.config.span) if loaded else progress.loaded_blocks if progress else 0,
            wanted_blocks=len(engine.config.span),
            resident_bytes=_resident_bytes(engine.pid),
            restarts=engine.num_restarts,
            executor=loaded.executor if loaded else "",
            dtype=loaded.dtype if loaded else "",
        )

    async def serve_stream(
        self, stream: Stream, opening: OpenSession | OpenPush | Backward, body: bytes | bytearray | memoryview
    ) -> None:
        """Serve a stream that a client or a previous hop opened; `body` is that of its first frame."""
        if self.block_server is None:
            await refuse(stream, NoCapacity("this node serves no blocks now"))
        elif isinstance(opening, Backward):
            await self.block_server.serve_backward(stream, opening, body)
        elif isinstance(opening, OpenSession):
            await self.block_server.serve_session(stream, opening, body)
        else:
            await self.block_server.serve_push(stream, opening)

    async def _wait_paused(self) -> None:
        """Return once a pause was asked for and no session is left, or those that are have had their time."""
        while not self.pausing.reason:
            await self.pausing.wait_paused()
            await self._wait_idle(PAUSE_DRAIN_S)

    def _forget_blocks(self) -> None:
        if self.block_server is not None:
            self._past_tokens.update(self.block_server.computed_tokens)
            self._past_block_tokens += self.block_server.computed_block_tokens
        self.engine = self.block_server = self._serving = None
        self._announce_if_moved()

    async def _serve(self) -> None:
        config = self._config
        checkpoint = await asyncio.to_thread(open_checkpoint, self._location)
        model, facts = checkpoint.model_id, checkpoint.facts
        span = await settle(
            config, model, facts, self._membership, me=self._me, expects_news=self._expects_news()
        )
        self._serving = Serving(
            model=model,
            num_blocks=facts.num_blocks,
            span=span,
            has_embeddings=span.start == 0,
            has_head=span.end == facts.num_blocks,
            quantization=config.quantization,
            max_session_tokens=min(facts.max_positions, config.cache_tokens),
            free_cache_tokens=0,
            decode_block_s=UNMEASURED_BLOCK_S,
        )
        self._membership.announce()  # others may wait for our choice to make theirs
        engine_config = EngineConfig(
            location=self._location,
            span=span,
            quantization=config.quantization,
            dtype=config.dtype,
            device=config.device,
            executor=config.executor,
            kv=config.kv,
            cache_tokens=config.cache_tokens,
            num_threads=config.threads,
            adapters=config.adapters,
            block_cache_bytes=config.block_cache_bytes,
        )
        self.engine = EngineSupervisor(engine_config, on_change=self._engine_changed)
        self.block_server = BlockServer(
            self.engine,
            self._links,
            serving=self._serving_now,
            max_sessions=config.sessions,
            session_ttl_s=config.session_ttl_s,
            uplink=self._uplink,
            on_refused=self._on_refused,
        )
        await self.engine.run()

    def _engine_changed(self) -> None:
        engine = self.engine
        if engine and self._serving and engine.loaded and engine.loaded.text_dir:
            self._on_text(self._serving.model, Path(engine.loaded.text_dir))
        self._announce_if_moved()

    def _announce_if_moved(self) -> None:
        """Tell the swarm what matters to it: the state, why, and free cache if it moved much."""
        before, free = self._announced, self.free_cache_tokens
        if (
            before is None
            or (before[0], before[2]) != (self.state, self.pausing.reason)
            or is_news(before[1], free, self.total_cache_tokens)
        ):
            self._announced = (self.state, free, self.pausing.reason)
            self._membership.announce()
        self._on_change()

    def _serving_now(self) -> Serving | None:
        """Return what this node serves to new sessions, or None while it takes none."""
        return self.described() if self.state is PeerState.ONLINE else None

    async def _wait_idle(self, timeout_s: float) -> None:
        """Wait until no session is open here, for at most `timeout_s`."""
        if self.block_server is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.block_server.places.wait_idle()


def is_news(announced_tokens: int, free_tokens: int, total_tokens: int) -> bool:
    """Return whether free cache moved so much that the swarm is told at once.

    A cache that is empty again always counts: a session as long as the context needs all of it. So does one
    that was almost full and has twice the room: others wait for that.
    """
    if free_tokens == total_tokens:
        return announced_tokens != free_tokens
    much_tokens = ANNOUNCED_CACHE_SHARE * total_tokens
    if announced_tokens < much_tokens and free_tokens >= 2 * max(announced_tokens, 1):
        return True
    return abs(free_tokens - announced_tokens) > much_tokens


def _resident_bytes(pid: int | None) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0
