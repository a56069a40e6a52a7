"""A daemon: its services put together, and the door's view of them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import psutil

from gridnode import __version__
from gridnode.config import NodeConfig
from gridnode.control.history import History
from gridnode.control.schema import (
    AnswerEvent,
    Embedded,
    EmbedRequest,
    EngineStatus,
    GenerateRequest,
    NodeStatus,
)
from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_ANNOUNCED_RTTS, Announcement, PeerState, Serving
from gridnode.core.ids import PeerId, short, show_peer
from gridnode.core.swarm import SwarmState
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import EngineConfig
from gridnode.errors import GridError, NoCapacity, PeerLost, ProtocolError
from gridnode.net.identity import load_or_create_identity
from gridnode.net.interfaces import bind_host, reachable_addresses
from gridnode.net.memory import MemoryNetwork
from gridnode.net.quic import QuicTransport
from gridnode.net.transport import Connection, Stream
from gridnode.node.answering import Answering
from gridnode.node.balancer import settle
from gridnode.node.block_server import BlockServer, refuse
from gridnode.node.engine_supervisor import EngineState, EngineSupervisor
from gridnode.node.history_file import HistoryFile
from gridnode.node.lan import Lan
from gridnode.node.links import Links
from gridnode.node.membership import Membership, MembershipConfig
from gridnode.node.prompt_log import log_texts, logged
from gridnode.node.recorder import Recorder
from gridnode.node.status import SwarmView
from gridnode.node.text_library import TextLibrary
from gridnode.wire.messages import FindText, Hello, OpenPush, OpenSession, StepKind, decode_message

logger = logging.getLogger("gridnode.node")

# A node that still loads takes part in placement with the speed of an old computer.
UNMEASURED_BLOCK_S = 0.005
# Free cache is announced at once when it moved by this share of the whole, otherwise regularly.
ANNOUNCED_CACHE_SHARE = 0.125

HISTORY_FILE = "history.sqlite3"


class Node:
    """One daemon. Implements `gridnode.control.interface.NodeControl`. Run it once, with `run`."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.identity = load_or_create_identity(config.state_dir)
        self.state = PeerState.JOINING
        self.address = config.listen
        """Where QUIC listens; the real port once `run` has begun."""

        self._started_at = time.monotonic()
        self._engine: EngineSupervisor | None = None
        self._block_server: BlockServer | None = None
        self._serving: Serving | None = None
        self._announced: tuple[PeerState, int] | None = None
        self._changed = asyncio.Event()
        self.links = Links(self.peer_id, on_stream=self._serve_stream, on_connection=self._greet)
        self._history = HistoryFile(config.state_dir / HISTORY_FILE, clock=time.time)
        self._recorder = Recorder(
            self._history,
            self.peer_id,
            status=self.status,
            served_block_tokens=self._served_block_tokens,
            on_written=self._note_change,
            clock=time.time,
        )
        self._membership = Membership(
            MembershipConfig(swarm=config.swarm, join=config.join),
            self.links,
            describe=self._describe,
            sign=self.identity.sign,
            on_change=self._swarm_changed,
        )
        self._lan = Lan(self.links, swarm=config.swarm, mdns=config.mdns, on_change=self._membership.announce)
        self._texts = TextLibrary(self.peer_id, self.links, swarm=lambda: self._membership.swarm)
        self._answering = Answering(
            self.links,
            view=self._view,
            wait_change=self._membership.wait_change,
            codec=self._texts.codec,
        )

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self.identity.peer_id

    @property
    def swarm(self) -> SwarmState:
        """The swarm as this node sees it now."""
        return self._membership.swarm

    @property
    def history(self) -> History:
        """What this node remembers of the swarm."""
        return self._history

    async def wait_until(self, is_true: Callable[[SwarmState], bool]) -> SwarmState:
        """Return the first view of the swarm for which `is_true` holds. Cancelling is safe."""
        return await self._membership.wait_until(is_true)

    @property
    def free_cache_tokens(self) -> int:
        """Tokens of KV cache that could be leased here now."""
        return self._engine.free_cache_tokens if self._engine else 0

    async def run(self, *, on_listening: Callable[[], None] = lambda: None) -> None:
        """Join the swarm and serve until cancelled; then say goodbye and close every link.

        Args:
            on_listening: Called once the QUIC port is open.

        Raises:
            AddressInUse: another process holds the port.
            BadInput: there is no such network interface.
            BadCheckpoint, BadInput: the model cannot be served.
            NoCapacity: not one block fits into the memory budget.
        """
        listen = self.config.listen
        if self.config.bind:
            listen = Address(bind_host(self.config.bind), listen.port)
        transport = QuicTransport(self.identity, listen)
        self.address = transport.address
        self._lan.begin(self.address)
        at_home = MemoryNetwork().transport(self.peer_id)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.links.run([transport, at_home]), name="links")
                group.create_task(self._membership.run(), name="membership")
                group.create_task(self._lan.run(), name="lan")
                group.create_task(self._recorder.run(), name="recorder")
                on_listening()
                try:
                    await self._serve(group)
                finally:
                    self.state = PeerState.OFFLINE
                    await self._membership.say_goodbye()
        except* GridError as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._history.aclose()

    def status(self) -> NodeStatus:
        """Return what the node is doing now."""
        view = self._view()
        sessions = self._block_server.sessions() if self._block_server else ()
        computed = self._block_server.computed_tokens if self._block_server else {}
        return NodeStatus(
            version=__version__,
            peer_id=show_peer(self.peer_id),
            short=short(self.peer_id),
            public_name=self.config.public_name,
            swarm=self.config.swarm,
            state=self.state.value,
            uptime_s=time.monotonic() - self._started_at,
            pid=os.getpid(),
            listen=str(self.address),
            addresses=tuple(map(str, reachable_addresses(self.address))),
            engine=self._engine_status(),
            open_sessions=len(sessions),
            total_cache_tokens=self.config.cache_tokens if self._engine else 0,
            peers=view.peers(),
            models=view.models(),
            sessions=sessions,
            computed_prompt_tokens=computed.get(StepKind.PREFILL, 0),
            computed_answer_tokens=computed.get(StepKind.DECODE, 0),
        )

    async def wait_change(self) -> None:
        """Return once the swarm or the engine has changed; see `NodeControl.wait_change`."""
        changed = self._changed
        await changed.wait()

    def _swarm_changed(self, before: SwarmState, after: SwarmState) -> None:
        self._recorder.swarm_changed(before, after)
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()  # each waiter sees the change that follows its call

    def rename(self, public_name: str) -> None:
        """Take another public name, and tell the swarm."""
        self.config = replace(self.config, public_name=public_name)
        self._membership.announce()

    def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Answer `request`; see `NodeControl.generate`."""
        events = self._recorder.follow(self._answering.run(request))
        return logged(request, events) if self.config.log_prompts else events

    async def reach(self, peer_id: str) -> float | None:
        """Return the round-trip time to a peer; see `NodeControl.reach`."""
        peer = next((p for key, p in self.swarm.peers.items() if show_peer(key) == peer_id), None)
        if peer is None:
            raise PeerLost(f"nobody in the swarm has heard of node {peer_id[:8]}")
        if peer.peer_id == self.peer_id:
            return 0.0
        return (await self.links.connect(peer.peer_id, peer.announcement.addresses)).rtt_s

    def _served_block_tokens(self) -> int:
        return self._block_server.computed_block_tokens if self._block_server else 0

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Return a vector for each text; see `NodeControl.embed`."""
        if self.config.log_prompts:
            log_texts(request.texts)
        return await self._answering.embed(request)

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        """Return the tokens of a prompt; see `NodeControl.tokenize`."""
        return await self._answering.tokenize(request)

    async def _serve(self, group: asyncio.TaskGroup) -> None:
        """Serve the blocks that this node was told, or chooses, until cancelled.

        The engine runs in `group`: it ends together with the links, after the goodbye.
        """
        if self.config.model:
            await self._start_engine(group)
        else:
            self.state = PeerState.ONLINE
            self._membership.announce()
        await asyncio.get_running_loop().create_future()  # until cancelled

    async def _start_engine(self, group: asyncio.TaskGroup) -> None:
        checkpoint = await asyncio.to_thread(open_checkpoint, self.config.model)
        model, facts = checkpoint.model_id, checkpoint.facts
        expects_news = bool(self.config.join) or self._lan.is_searching
        span = await settle(
            self.config, model, facts, self._membership, me=self.peer_id, expects_news=expects_news
        )
        self._serving = Serving(
            model=model,
            num_blocks=facts.num_blocks,
            span=span,
            has_embeddings=span.start == 0,
            has_head=span.end == facts.num_blocks,
            quantization=self.config.quantization,
            max_session_tokens=min(facts.max_positions, self.config.cache_tokens),
            free_cache_tokens=0,
            decode_block_s=UNMEASURED_BLOCK_S,
        )
        engine_config = EngineConfig(
            location=self.config.model,
            span=span,
            quantization=self.config.quantization,
            dtype=self.config.dtype,
            executor=self.config.executor,
            cache_tokens=self.config.cache_tokens,
            num_threads=self.config.threads,
        )
        self._membership.announce()  # others may wait for our choice to make theirs
        self._engine = EngineSupervisor(engine_config, on_change=self._engine_changed)
        self._block_server = BlockServer(
            self._engine, self.links, serving=self._serving_now, on_refused=self._recorder.refused
        )
        group.create_task(self._engine.run(), name="engine")

    def _engine_changed(self) -> None:
        """Follow the engine worker: online while it is ready, and tell the swarm what matters to it."""
        self._note_change()
        engine = self._engine
        if engine is None or self.state is PeerState.OFFLINE or self._serving is None:
            return
        self._recorder.engine_changed(engine.state.value, engine.detail)
        is_ready = engine.state is EngineState.READY and engine.loaded is not None
        if is_ready and engine.loaded and engine.loaded.text_dir:
            self._texts.own(self._serving.model, Path(engine.loaded.text_dir))
        self.state = PeerState.ONLINE if is_ready else PeerState.JOINING
        before = self._announced
        free = engine.free_cache_tokens
        moved = abs(free - before[1]) if before else 0
        if (
            before is None
            or before[0] is not self.state
            or moved > ANNOUNCED_CACHE_SHARE * self.config.cache_tokens
        ):
            self._announced = (self.state, free)
            self._membership.announce()

    def _serving_now(self) -> Serving | None:
        """Return what this node serves with its present figures, or None while its engine is not ready."""
        return self._described_serving() if self.state is PeerState.ONLINE else None

    def _described_serving(self) -> Serving | None:
        engine, serving = self._engine, self._serving
        if serving is None or engine is None or engine.loaded is None:
            return serving
        return Serving(
            model=serving.model,
            num_blocks=serving.num_blocks,
            span=serving.span,
            has_embeddings=engine.loaded.has_embeddings,
            has_head=engine.loaded.has_head,
            quantization=serving.quantization,
            max_session_tokens=engine.loaded.max_session_tokens,
            free_cache_tokens=engine.free_cache_tokens,
            decode_block_s=engine.loaded.decode_block_s,
            total_cache_tokens=self.config.cache_tokens,
            open_sessions=len(self._block_server.sessions()) if self._block_server else 0,
        )

    def _describe(self, sequence: int, ttl_s: float) -> Announcement:
        rtts = sorted(self._view().rtts().items(), key=lambda item: item[1])
        return Announcement(
            peer_id=self.peer_id,
            sequence=sequence,
            ttl_s=ttl_s,
            state=self.state,
            swarm=self.config.swarm,
            addresses=reachable_addresses(self.address),
            public_name=self.config.public_name,
            version=__version__,
            serving=self._described_serving(),
            rtts=tuple(rtts[:MAX_ANNOUNCED_RTTS]),
            publishes_address=self.config.publish_address,
        )

    def _view(self) -> SwarmView:
        return SwarmView(me=self.peer_id, swarm=self._membership.swarm, connections=self.links.connections())

    def _engine_status(self) -> EngineStatus:
        engine = self._engine
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

    async def _greet(self, connection: Connection) -> None:
        if connection.peer_id != self.peer_id:
            await self._membership.greet(connection)

    async def _serve_stream(self, stream: Stream) -> None:
        """Serve one stream that a peer opened: its first message says what it is for."""
        try:
            frame = await stream.receive()
            if frame is None:
                return
            message = decode_message(frame)
            if isinstance(message, Hello):
                await self._membership.welcome(stream, message)
            elif isinstance(message, FindText):
                await self._texts.serve(stream, message)
            elif isinstance(message, OpenSession) and self._block_server is None:
                await refuse(stream, NoCapacity("this node serves no blocks"))
            elif isinstance(message, OpenSession) and self._block_server:
                await self._block_server.serve_session(stream, message)
            elif isinstance(message, OpenPush) and self._block_server:
                await self._block_server.serve_push(stream, message)
            else:
                raise ProtocolError(f"a stream cannot begin with {type(message).__name__}")
        except GridError:
            stream.reset()
            raise


def _resident_bytes(pid: int | None) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0
