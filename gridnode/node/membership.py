"""Keeping the view of the swarm fresh: announcements made, passed on and expired."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement
from gridnode.core.ids import PeerId, short
from gridnode.core.swarm import SwarmState
from gridnode.errors import GridError
from gridnode.net.transport import Connection, Stream
from gridnode.node.hearsay import Hearsay
from gridnode.node.links import Links
from gridnode.node.outbox import Outbox
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import Announce, OpenNews, SignedAnnouncement, expect_message
from gridnode.wire.signing import sign_announcement

logger = logging.getLogger("gridnode.node.membership")

# A small swarm is a full mesh, so that sessions open without dialling; a large one dials on demand.
MAX_MESH_LINKS = 32
# Dials for the mesh at once. Those to addresses that do not answer last more than a minute, and must leave
# room for others; more at once would be many packets to whom strangers name.
MAX_MESH_DIALS = 16
# Rounds that the peer with the larger id leaves to the other one to dial.
MESH_PATIENCE_ROUNDS = 2
MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
GOODBYE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """How a node keeps its view of the swarm fresh."""

    swarm: str
    """Name of the swarm."""

    join: tuple[Address, ...] = ()
    """Peers to stay connected to, whether or not they have announced themselves."""

    invited_by: tuple[Address, ...] = ()
    """Where nodes were when this one was invited: tried, one after the other, while it is alone."""

    announce_interval_s: float = 30.0
    """Seconds between announcements; a change of span or state is announced at once."""

    announcement_ttl_s: float = 90.0
    """Seconds of silence after which a peer is dropped; at least two intervals."""

    mesh_interval_s: float = 2.0
    """Seconds between looks for known peers without a link, and for expired announcements."""

    def __post_init__(self) -> None:
        if self.announcement_ttl_s < 2 * self.announce_interval_s:
            raise ValueError(
                f"announcement_ttl_s must be at least {2 * self.announce_interval_s:g}, "
                f"got {self.announcement_ttl_s:g}"
            )


class Membership:
    """The swarm as this node sees it.

    Args:
        describe: Returns this node's announcement for a sequence number and a TTL.
        sign: Returns the Ed25519 signature of this node.
        may_serve: Returns whether the blocks of the peer at the other end of a connection may be used.
        on_change: Called with the view before and after every change of it.
        wall_s: Returns the seconds since 1970.
    """

    def __init__(
        self,
        config: MembershipConfig,
        links: Links,
        *,
        describe: Callable[[int, float], Announcement],
        sign: Callable[[bytes], bytes],
        may_serve: Callable[[Connection], bool] = lambda connection: True,
        on_change: Callable[[SwarmState, SwarmState], None] = lambda before, after: None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.swarm = SwarmState(me=links.peer_id)
        self._config = config
        self._links = links
        self._describe = describe
        self._sign = sign
        self._may_serve = may_serve
        self._on_change = on_change
        self._wall_s = wall_s
        self._hearsay = Hearsay(config.swarm, wall_s=wall_s)
        self._signed: dict[PeerId, tuple[SignedAnnouncement, float]] = {}
        self._outboxes: set[Outbox] = set()
        self._sequence = 0
        self._announce_now = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Announce, expire and stay connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._announce_regularly(), name="announce")
            group.create_task(self._keep_mesh(), name="mesh")
            for address in self._config.join:
                group.create_task(self._keep_joined(address), name=f"join {address}")
            if self._config.invited_by:
                group.create_task(self._keep_company(), name="invitation")

    def announce(self) -> None:
        """Announce this node's present state soon; many calls make one announcement."""
        self._announce_now.set()

    async def say_goodbye(self) -> None:
        """Tell the neighbours what `describe` says last, and wait until they heard it, at most a second."""
        self._announce(self._describe)
        outboxes = list(self._outboxes)
        for outbox in outboxes:
            outbox.close()
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await asyncio.gather(*(outbox.ended.wait() for outbox in outboxes))
        except TimeoutError:
            logger.debug("some neighbours did not take the goodbye")

    async def wait_until(self, is_true: Callable[[SwarmState], bool]) -> SwarmState:
        """Return the first view of the swarm for which `is_true` holds. Cancelling is safe."""
        while not is_true(self.swarm):
            await self.wait_change()
        return self.swarm

    async def wait_change(self) -> None:
        """Return once the view of the swarm has changed. Cancelling is safe."""
        changed = self._changed
        await changed.wait()

    async def greet(self, connection: Connection) -> None:
        """Exchange news over a connection that this node dialled, while it lasts."""
        stream = await connection.open_stream()
        try:
            await stream.send(encode_message(OpenNews()))
            await self.exchange(stream)
        except (GridError, asyncio.CancelledError):
            stream.reset()  # the connection may go on without
            raise

    def forget(self, peer_id: PeerId) -> None:
        """Drop a peer that was seen to be gone, until it announces itself again."""
        self._update(self.swarm.without(peer_id))

    async def exchange(self, stream: Stream) -> None:
        """Exchange news with a peer, while the stream lasts."""
        self.announce()  # the peer may have forgotten us since our last announcement
        outbox = Outbox(list(self._signed.values()))
        self._outboxes.add(outbox)
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._send_news(stream, outbox), name="news")
                try:
                    await self._receive_news(stream)
                finally:
                    sender.cancel()
            stream.finish()  # the answer to a goodbye, or the peer's answer has come
        except* GridError as errors:
            logger.debug("news of %s ended: %s", short(stream.connection.peer_id), errors.exceptions[0])
            stream.reset()
        finally:
            self._outboxes.discard(outbox)
            outbox.ended.set()

    async def _send_news(self, stream: Stream, outbox: Outbox) -> None:
        now = asyncio.get_running_loop().time
        while (news := await outbox.take(now)) is not None:
            await stream.send(encode_message(news))
        stream.finish()

    async def _receive_news(self, stream: Stream) -> None:
        while (frame := await stream.receive()) is not None:
            for signed in expect_message(frame, Announce).announcements:
                known = self._signed.get(signed.peer_id)
                if known and known[0].signature == signed.signature:
                    continue  # most are heard from several neighbours
                connection = stream.connection
                heard = await self._hearsay.believe(
                    signed, teller=connection.peer_id, may_serve=self._may_serve(connection)
                )
                if heard is not None:
                    self._hear(signed, *heard)

    def _hear(self, signed: SignedAnnouncement, announcement: Announcement, age_s: float) -> None:
        """Take over what is new, and pass it on."""
        now = asyncio.get_running_loop().time()
        swarm = self.swarm.apply(announcement, now=now, age_s=age_s)
        if swarm is self.swarm:
            return
        self._signed[signed.peer_id] = (signed, now - age_s)
        for outbox in self._outboxes:
            outbox.put(signed, now - age_s)
        self._update(swarm)

    def _update(self, swarm: SwarmState) -> None:
        before, self.swarm = self.swarm, swarm
        for peer_id in swarm.peers.keys() - before.peers.keys() - {self._links.peer_id}:
            announcement = swarm.peers[peer_id].announcement
            logger.info("peer %s joined: %s", short(peer_id), announcement.public_name or "no name")
        for peer_id in before.peers.keys() - swarm.peers.keys() - {self._links.peer_id}:
            logger.info("peer %s left", short(peer_id))
        self._changed.set()
        self._on_change(before, swarm)
        self._changed = asyncio.Event()  # each waiter sees the change that follows its call

    def _announce(self, describe: Callable[[int, float], Announcement]) -> None:
        # Milliseconds since 1970 grow over restarts; the counter keeps them growing within one.
        self._sequence = max(self._sequence + 1, int(self._wall_s() * 1000))
        announcement = describe(self._sequence, self._config.announcement_ttl_s)
        self._hear(sign_announcement(announcement, self._sign), announcement, 0.0)

    async def _announce_regularly(self) -> None:
        while True:
            self._announce_now.clear()
            self._announce(self._describe)
            try:
                async with asyncio.timeout(self._config.announce_interval_s):
                    await self._announce_now.wait()
            except TimeoutError:
                pass

    async def _keep_mesh(self) -> None:
        """Expire what is old; dial known peers without a link, as far as the mesh reaches."""
        rounds: Counter[PeerId] = Counter()
        dialling: dict[PeerId, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._config.mesh_interval_s)
                self._expire()
                dialling = {peer_id: dial for peer_id, dial in dialling.items() if not dial.done()}
                connected = self._links.connections().keys()
                missing = self.swarm.peers.keys() - connected - {self._links.peer_id}
                rounds = Counter({peer_id: rounds[peer_id] + 1 for peer_id in missing})
                # The smaller id dials first, so that two nodes do not dial each other at once.
                due = [p for p in missing if p > self._links.peer_id or rounds[p] > MESH_PATIENCE_ROUNDS]
                due = [peer_id for peer_id in due if peer_id not in dialling]
                room = min(MAX_MESH_LINKS - len(connected | dialling.keys()), MAX_MESH_DIALS - len(dialling))
                for peer_id in due[: max(room, 0)]:
                    # The peer may be forgotten before the task begins.
                    addresses = self.swarm.peers[peer_id].announcement.addresses
                    dial = self._connect(peer_id, addresses)
                    dialling[peer_id] = group.create_task(dial, name=f"mesh {short(peer_id)}")

    async def _connect(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """Dial a known peer. One that does not answer is no use as a hop: forget it."""
        try:
            await self._links.connect(peer_id, addresses)
        except GridError as exc:
            logger.info("no link to %s: %s", short(peer_id), exc)
            if peer_id not in self._links.connections():
                self.forget(peer_id)

    def _expire(self) -> None:
        swarm = self.swarm.expire(now=asyncio.get_running_loop().time())
        if swarm is not self.swarm:
            self._update(swarm)
        for peer_id in self._signed.keys() - swarm.peers.keys():
            del self._signed[peer_id]

    async def _keep_joined(self, address: Address) -> None:
        """Stay connected to whoever listens at `address`, with growing waits between attempts."""
        backoff_s = MIN_BACKOFF_S
        while True:
            try:
                connection = await self._links.join(address)
            except GridError as exc:
                logger.warning("cannot join %s: %s; next attempt in %.1f s", address, exc, backoff_s)
            else:
                backoff_s = MIN_BACKOFF_S
                await connection.wait_closed()
                # Of two connections one remains: perhaps the other one, which the peer has dialled.
                while (link := self._links.connections().get(connection.peer_id)) is not None:
                    await link.wait_closed()
                    await asyncio.sleep(0)  # let it leave the table
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def _keep_company(self) -> None:
        """While this node is alone, connect to where its invitation says, with growing waits."""
        backoff_s, told = MIN_BACKOFF_S, ""
        while True:
            if self._links.connections():
                backoff_s = MIN_BACKOFF_S
            elif (problem := await self._join_first(self._config.invited_by)) and problem != told:
                logger.warning("nobody of the invitation to this swarm lets this node in: %s", problem)
                told = problem
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def _join_first(self, addresses: Sequence[Address]) -> str:
        """Connect to the first of `addresses` where that works; return why nowhere, or nothing."""
        problem = ""
        for address in addresses:
            try:
                await self._links.join(address)
            except GridError as exc:
                problem = str(exc)
            else:
                return ""
        return problem
