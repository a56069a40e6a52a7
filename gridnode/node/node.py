"""A daemon: its services put together, and the door's view of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from gridnode import __version__
from gridnode.config import NodeConfig
from gridnode.config.settings import live_values
from gridnode.config.swarm_file import SwarmFile, find_swarm, maps_port
from gridnode.control.answer_schema import AnswerEvent, Embedded, EmbedRequest, GenerateRequest
from gridnode.control.history import History
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.control.status_schema import NodeStatus, PauseRequest
from gridnode.core.addresses import Address
from gridnode.core.announcements import (
    MAX_ANNOUNCED_RTTS,
    MAX_PAUSE_REASON_CHARACTERS,
    Announcement,
    PeerState,
)
from gridnode.core.ids import PeerId, short, show_peer
from gridnode.core.invitation import Invitation
from gridnode.core.swarm import SwarmState
from gridnode.errors import GridError, PeerLost
from gridnode.net.identity import load_or_create_identity
from gridnode.net.interfaces import bind_host
from gridnode.net.memory import MemoryNetwork
from gridnode.net.quic import QuicTransport
from gridnode.net.transport import Connection
from gridnode.node.admission import Admission
from gridnode.node.answering import Answering
from gridnode.node.contribution import Contribution
from gridnode.node.courtesy import Courtesy
from gridnode.node.draft_model import DraftModel
from gridnode.node.history_file import HistoryFile
from gridnode.node.lan import Lan
from gridnode.node.links import Links
from gridnode.node.membership import Membership, MembershipConfig
from gridnode.node.model_access import ModelAccess
from gridnode.node.on_demand import OnDemand
from gridnode.node.own_addresses import OwnAddresses
from gridnode.node.pacing import Pacing
from gridnode.node.prompt_log import log_texts, logged
from gridnode.node.reception import Reception
from gridnode.node.recorder import Recorder
from gridnode.node.relaying import Relaying
from gridnode.node.status import SwarmView
from gridnode.node.text_library import TextLibrary
from gridnode.node.uplink import Uplink
from gridnode.wire.messages import StepKind

logger = logging.getLogger("gridnode.node")

HISTORY_FILE = "history.sqlite3"


class Node:
    """One daemon. Implements `gridnode.control.interface.NodeControl`. Run it once, with `run`.

    Args:
        invitation: What it holds of its swarm; None takes what is kept in its state directory.
    """

    def __init__(self, config: NodeConfig, invitation: Invitation | None = None) -> None:
        invitation = invitation or find_swarm(config, {})
        self.config = config = replace(config, swarm=invitation.swarm.name)
        self.identity = load_or_create_identity(config.state_dir)
        self._admission = Admission(self.peer_id, invitation, SwarmFile(config.state_dir))
        self._is_gone = False
        self.address = config.listen
        """Where QUIC listens; the real port once `run` has begun."""

        self._started_at = time.monotonic()
        self._changed = asyncio.Event()
        self.links = Links(
            self.peer_id,
            on_stream=lambda stream: self._reception.serve(stream),
            on_connection=self._greet,
            admit=self._admission.admit,
            find_way=lambda peer_id: self._relaying.find_way(peer_id),
        )
        self._own = OwnAddresses(
            maps_port(config, invitation), on_change=lambda: self._relaying.tell_addresses()
        )
        relays = tuple(dict.fromkeys((*config.relay, *invitation.relays)))
        self._relaying = Relaying(
            self.identity,
            self.links,
            relays=relays,
            serve_at=config.serve_relay,
            swarm=config.swarm,
            tags=lambda: self._admission.opaque_ids("relay"),
            addresses=lambda: self._own.addresses,
            view=lambda: self.swarm,
            guess_ports=config.guess_ports,
            on_homes=lambda: self._membership.announce(),
            on_change=self._note_change,
        )
        self._history = HistoryFile(config.state_dir / HISTORY_FILE, clock=time.time)
        self._recorder = Recorder(
            self._history,
            self.peer_id,
            status=self.status,
            served_block_tokens=lambda: self._contribution.served_block_tokens,
            on_written=self._note_change,
            clock=time.time,
        )
        self._membership = Membership(
            MembershipConfig(swarm=config.swarm, join=config.join, invited_by=invitation.addresses),
            self.links,
            describe=self._describe,
            sign=self.identity.sign,
            may_serve=self._admission.may_serve,
            on_change=self._swarm_changed,
        )
        self._uplink = Uplink(self.peer_id, config.bandwidth_bytes_per_s)
        self._texts = TextLibrary(
            self.peer_id, self.links, swarm=lambda: self._membership.swarm, uplink=self._uplink
        )
        self._lan = Lan(
            self.links,
            fingerprints=lambda: self._admission.opaque_ids("lan"),
            mdns=config.mdns,
            on_change=self._moved,
        )
        self._contribution = Contribution(
            config,
            self.peer_id,
            self.links,
            self._membership,
            uplink=self._uplink,
            expects_news=lambda: (
                bool(config.join or invitation.addresses or relays) or self._lan.is_searching
            ),
            on_text=self._texts.own,
            on_change=self._engine_changed,
            on_refused=self._recorder.refused,
        )
        self._reception = Reception(
            admission=self._admission,
            membership=self._membership,
            relaying=self._relaying,
            texts=self._texts,
            contribution=self._contribution,
        )
        self._courtesy = Courtesy(config.terms, rest=self._contribution.pausing.rest)
        self._pacing = Pacing()
        self._models = ModelAccess(
            self.links,
            pacing=self._pacing,
            view=self._view,
            wait_change=self._membership.wait_change,
            codec=self._texts.codec,
            on_unknown=OnDemand(self._admission, self._contribution).load,
            loading=self._contribution.loading,
        )
        self._draft_model = DraftModel(config, on_change=self._note_change)
        self._answering = Answering(self._models, self._draft_model)

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
        return self._contribution.free_cache_tokens

    @property
    def state(self) -> PeerState:
        """What this node is doing, as it announces it."""
        return PeerState.OFFLINE if self._is_gone else self._contribution.state

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
        self._own.begin(self.address)
        self._relaying.begin(transport)
        self._lan.begin(self.address)
        try:
            async with asyncio.TaskGroup() as group:
                at_home = MemoryNetwork().transport(self.peer_id)
                group.create_task(self.links.run([transport, at_home]), name="links")
                group.create_task(self._admission.run(), name="admission")
                group.create_task(self._membership.run(), name="membership")
                group.create_task(self._lan.run(), name="lan")
                group.create_task(self._relaying.run(), name="relaying")
                group.create_task(self._own.run(), name="port mapping")
                group.create_task(self._recorder.run(), name="recorder")
                group.create_task(self._contribution.run(), name="contribution")
                group.create_task(self._draft_model.run(), name="draft model")
                group.create_task(self._courtesy.run(), name="courtesy")
                on_listening()
                try:
                    await asyncio.get_running_loop().create_future()  # until cancelled
                finally:
                    self._is_gone = True
                    await self._membership.say_goodbye()
        except* GridError as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._history.aclose()

    def status(self) -> NodeStatus:
        """Return what the node is doing now."""
        view = self._view()
        sessions, computed = self._contribution.sessions(), self._contribution.computed_tokens
        return NodeStatus(
            version=__version__,
            peer_id=show_peer(self.peer_id),
            short=short(self.peer_id),
            public_name=self.config.public_name,
            swarm=self.config.swarm,
            swarm_is_private=self._admission.swarm.is_private,
            state=self.state.value,
            uptime_s=time.monotonic() - self._started_at,
            pid=os.getpid(),
            listen=str(self.address),
            addresses=tuple(map(str, self._own.addresses)),
            engine=self._contribution.engine_status(),
            open_sessions=len(sessions),
            open_streams=self.links.open_streams,
            tasks=len(asyncio.all_tasks()),
            total_cache_tokens=self._contribution.total_cache_tokens,
            peers=self._recorder.with_last_hops(view.peers()),
            models=view.models(),
            relays=self._relaying.status(),
            served_relay=self._relaying.served(),
            port_mapping=self._own.status(),
            sessions=sessions,
            running_answers=self._answering.num_running,
            waiting_answers=self._answering.num_waiting,
            computed_prompt_tokens=computed.get(StepKind.PREFILL, 0),
            computed_answer_tokens=computed.get(StepKind.DECODE, 0),
            pause=self._contribution.pausing.status(),
        )

    async def wait_change(self) -> None:
        """Return once the swarm or the engine has changed; see `NodeControl.wait_change`."""
        await self._changed.wait()

    def _swarm_changed(self, before: SwarmState, after: SwarmState) -> None:
        self._recorder.swarm_changed(before, after)
        self._note_change()

    def _moved(self) -> None:
        self._own.suspect()
        self._relaying.suspect()
        self._membership.announce()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()  # each waiter sees the change that follows its call

    def reconfigure(self, config: NodeConfig) -> None:
        """Take over from `config` what may change while the node runs, and tell the swarm."""
        self.config = replace(self.config, **live_values(config))
        self._contribution.reconfigure(self.config)
        self._uplink.limit(self.config.bandwidth_bytes_per_s)
        self._courtesy.agree(self.config.terms)
        self._membership.announce()

    def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Answer `request`; see `NodeControl.generate`."""
        events = self._recorder.follow(self._answering.run(request))
        return logged(request, events) if self.config.log_prompts else events

    async def reach(self, peer_id: str) -> float:
        """Ping a peer; see `NodeControl.reach`."""
        peer = next((p for key, p in self.swarm.peers.items() if show_peer(key) == peer_id), None)
        if peer is None:
            raise PeerLost(f"nobody in the swarm has heard of node {peer_id[:8]}")
        if peer.peer_id == self.peer_id:
            return 0.0
        return await (await self.links.connect(peer.peer_id, peer.announcement.addresses)).ping()

    async def score(self, request: ScoreRequest) -> Scored:
        """Return how probable texts are; see `NodeControl.score`."""
        return await self._answering.score(request)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Return a vector for each text; see `NodeControl.embed`."""
        if self.config.log_prompts:
            log_texts(request.texts)
        return await self._answering.embed(request)

    @property
    def models(self) -> ModelAccess:
        """The models of the swarm, for those who run blocks of them themselves."""
        return self._models

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        """Return the tokens of a prompt; see `NodeControl.tokenize`."""
        return await self._answering.tokenize(request)

    def pause(self, request: PauseRequest) -> None:
        """Stop serving blocks for a while; see `NodeControl.pause`."""
        self._contribution.pausing.pause(request.duration_s, request.reason)

    def resume(self) -> None:
        """Serve blocks again; see `NodeControl.resume`."""
        self._contribution.pausing.resume()

    async def leave(self, timeout_s: float) -> None:
        """Take nothing new, and wait until sessions have moved to other nodes and answers have ended.

        Cancelling is safe; so is `run` ending meanwhile.

        Args:
            timeout_s: How long at most.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        left = await self._contribution.leave(timeout_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._answering.wait_idle()
        if left or self._answering.num_running:
            logger.warning(
                "leaving with %d sessions and %d answers unfinished", left, self._answering.num_running
            )

    def _engine_changed(self) -> None:
        engine = self._contribution.engine_status()
        self._recorder.engine_changed(engine.state, engine.detail)
        supervisor, total = self._contribution.engine, self._contribution.total_cache_tokens
        if supervisor is not None and engine.state == "ready" and total:
            use = 1.0 - self._contribution.free_cache_tokens / total
            self._recorder.load_changed(sessions=supervisor.num_leases, cache_use=use)
        self._note_change()

    def _describe(self, sequence: int, ttl_s: float) -> Announcement:
        rtts = sorted(self._view().rtts().items(), key=lambda item: item[1])
        return Announcement(
            peer_id=self.peer_id,
            sequence=sequence,
            ttl_s=ttl_s,
            state=self.state,
            swarm=self.config.swarm,
            addresses=self._own.addresses,
            public_name=self.config.public_name,
            version=__version__,
            serving=self._contribution.announced(),
            rtts=tuple(rtts[:MAX_ANNOUNCED_RTTS]),
            relays=self._relaying.homes,
            publishes_address=self.config.publish_address,
            pause_reason=self._contribution.pausing.reason[:MAX_PAUSE_REASON_CHARACTERS],
        )

    def _view(self) -> SwarmView:
        return SwarmView(
            me=self.peer_id,
            swarm=self._membership.swarm,
            connections=self.links.connections(),
            is_near=self._lan.is_near,
            paces=self._pacing.paces(),
            own_sessions=self._pacing.own_sessions,
        )

    async def _greet(self, connection: Connection) -> None:
        if connection.peer_id != self.peer_id:
            async with asyncio.TaskGroup() as group:
                improving = group.create_task(self._relaying.improve(connection), name="paths")
                await self._membership.greet(connection)
                improving.cancel()
