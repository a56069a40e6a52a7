"""The relays that a node uses: where it is reached itself, and where it reaches others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from gridnode.control.served_relay import ServedRelay
from gridnode.control.status_schema import RelayStatus
from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, short
from gridnode.core.relays import HOME_RELAYS, RENDEZVOUS_RELAYS, Relay, is_virtual, nearest, parse_relay
from gridnode.core.swarm import SwarmState
from gridnode.errors import GridError, ProtocolError
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_link import RelayLink
from gridnode.net.relay_service import RelayService
from gridnode.net.transport import Connection, Stream
from gridnode.net.virtual_peer import RelayRoute, VirtualPeer
from gridnode.node.links import Links
from gridnode.node.path_talk import PathTalk
from gridnode.node.port_guessing import PortGuessing
from gridnode.wire.frames import Frame
from gridnode.wire.relay_messages import PathOffer, decode_relay_message

logger = logging.getLogger("gridnode.node.relaying")

# Relays of others that this node is registered with to reach them; the one unused for longest goes first.
MAX_VISITED_RELAYS = 16
# What a dial waits for relays of the peer, before it tries its addresses.
VISIT_TIMEOUT_S = 3.0
# Members dialled at once because a relay names them: the first of them tells of the others.
MAX_MEMBER_DIALS = 8


class Relaying:
    """The relays of a node, and its ways to peers behind them. Run it once, with `run`.

    Args:
        relays: Those that it was given, as people write them.
        serve_at: Where it is a relay for others, if it is one.
        swarm: Name of the swarm, whose nodes choose the same relays of many; relays do not learn it.
        tags: Returns what the swarm is called before relays, newest first.
        addresses: Returns where others reach this node without a router that changes addresses, but for a
            port that it maps.
        view: Returns the swarm as this node sees it.
        guess_ports: Whether the user allows guesses, see `gridnode.node.port_guessing`.
        on_homes: Called when the home relays or addresses have changed, of which all of the swarm hear.
        on_change: Called when the way to some peer has changed.
    """

    def __init__(
        self,
        identity: Identity,
        links: Links,
        *,
        relays: Sequence[str],
        serve_at: Address | None,
        swarm: str,
        tags: Callable[[], tuple[str, ...]],
        addresses: Callable[[], tuple[Address, ...]],
        view: Callable[[], SwarmState],
        guess_ports: bool,
        on_homes: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._peer_id = identity.peer_id
        self._links = links
        self._ranked = nearest(map(parse_relay, relays), swarm)
        self._serve_at = serve_at
        self._service: RelayService | None = None
        self._tags = tags
        self._addresses = addresses
        self._view = view
        self._guessing = PortGuessing(is_allowed=guess_ports)
        self._on_homes = on_homes
        self._on_change = on_change
        self._own: dict[Relay, RelayLink] = {}
        self._visited: dict[Relay, tuple[RelayLink, asyncio.Task[None]]] = {}
        self._transport: QuicTransport | None = None
        self._router: PathRouter | None = None
        self._group: asyncio.TaskGroup | None = None
        self._meeting: set[PeerId] = set()
        self._changed = asyncio.Event()
        self._told: tuple[Relay, ...] = ()

    def begin(self, transport: QuicTransport) -> None:
        """Take the packets beside QUIC of `transport`, and listen as a relay.

        Raises:
            AddressInUse: another process holds the port of the relay.
            BadInput: this machine does not have its address.
        """
        if self._serve_at is not None:
            self._service = RelayService(self._identity, self._serve_at, RelayLimits())
        self._transport = transport
        self._router = PathRouter(
            transport.endpoint,
            self._peer_id,
            is_translated=lambda: self.is_translated,
            on_change=self._note_change,
        )

    async def run(self) -> None:
        """Stay registered with the relays until cancelled."""
        assert self._router is not None, "begin comes first"
        try:
            async with asyncio.TaskGroup() as self._group:
                if self._service is not None:
                    self._group.create_task(self._service.run(), name="relay service")
                while True:
                    changed = self._changed
                    self._start_wanted()
                    await changed.wait()
        finally:
            self._group = None
            self._router.close()

    # --- what others are told ---

    @property
    def homes(self) -> tuple[Relay, ...]:
        """The relays where others reach this node, the nearest first."""
        registered = sorted((link for link in self._own.values() if link.home), key=lambda link: link.rtt_s)
        return tuple(link.home for link in registered[:HOME_RELAYS] if link.home)

    def status(self) -> tuple[RelayStatus, ...]:
        """Return how the relays are that this node was given, in the words of the door."""
        kinds = dict(self._router.relays) if self._router else {}
        return tuple(
            RelayStatus(
                place=str(link.relay.place),
                path=kinds[link.route].value if link.route in kinds else "none",
                rtt_s=link.rtt_s if link.route else None,
                observed=str(link.observed or ""),
                problem=link.problem,
            )
            for link in self._own.values()
        )

    def served(self) -> ServedRelay | None:
        """Return how the relay is that this node is for others, in the words of the door."""
        if self._service is None:
            return None
        return ServedRelay(
            listen=str(self._service.address),
            has_websockets=self._service.has_tunnels,
            max_nodes=self._service.server.limits.nodes,
            counters=replace(self._service.server.counters),
        )

    @property
    def observed(self) -> tuple[Address, ...]:
        """Where relays see this node."""
        links = [*self._own.values(), *(link for link, _ in self._visited.values())]
        return tuple(sorted({link.observed for link in links if link.observed}))

    @property
    def is_translated(self) -> bool:
        """Whether routers change the addresses of this node's packets, as far as relays can tell."""
        observed = {address.host for address in self.observed}
        return bool(observed) and not observed & {address.host for address in self._addresses()}

    def tell_addresses(self) -> None:
        """Tell others that this node has other addresses now, and look for ways by them."""
        self._note_change()
        self._on_homes()

    def suspect(self) -> None:
        """Take the hint that this computer has moved."""
        for link in (*self._own.values(), *(link for link, _ in self._visited.values())):
            link.suspect()
        self._note_change()

    # --- ways to others ---

    async def find_way(self, peer_id: PeerId) -> Address | None:
        """Return the virtual address of a peer, or None if no relay leads to it. Cancelling is safe."""
        if self._router is None or self._group is None or peer_id == self._peer_id:
            return None
        peer = self._router.peer(peer_id)
        known = self._view().peers.get(peer_id)
        attempts = [self._visit(relay) for relay in known.announcement.relays] if known else []
        if not any(path.is_relayed for path in peer.paths.paths()):
            await _first_settled(attempts)
        self._add_relays(peer, attempts)
        return peer.address if any(path.is_relayed for path in peer.paths.paths()) else None

    def _visit(self, relay: Relay) -> RelayLink:
        """Return the link to a relay; begin one if there is none."""
        for link in self._own.values():
            if link.home and link.home.peer_id == relay.peer_id:
                return link
        if relay not in self._visited:
            assert self._group is not None
            if len(self._visited) >= MAX_VISITED_RELAYS:
                oldest = next(iter(self._visited))
                self._visited.pop(oldest)[1].cancel()
            link = self._link(relay, tags=lambda: ())
            task = self._group.create_task(link.run(), name=f"visit {relay.place}")
            self._visited[relay] = (link, task)
        self._visited[relay] = self._visited.pop(relay)  # the last to go
        return self._visited[relay][0]

    def _add_relays(self, peer: VirtualPeer, links: Iterable[RelayLink]) -> None:
        assert self._router is not None
        kinds = dict(self._router.relays)
        for link in links:
            if link.route in kinds:
                peer.add_relay(link.route, kinds[link.route])

    def _start_wanted(self) -> None:
        """Begin to register with the nearest relays; with farther ones instead of those that fail."""
        assert self._group is not None
        healthy = 0
        for relay in self._ranked:
            if healthy >= RENDEZVOUS_RELAYS:
                break
            if relay not in self._own:
                self._own[relay] = self._link(relay, tags=self._tags)
                self._group.create_task(self._own[relay].run(), name=f"relay {relay.place}")
            healthy += not self._own[relay].problem

    def _link(self, relay: Relay, *, tags: Callable[[], tuple[str, ...]]) -> RelayLink:
        assert self._transport is not None
        assert self._router is not None
        return RelayLink(
            relay,
            self._transport,
            self._router,
            tags=tags,
            on_members=self._meet,
            on_change=self._note_change,
            is_alone=lambda: not self._links.connections(),
        )

    def _meet(self, route: RelayRoute, peers: Sequence[PeerId]) -> None:
        """Dial members of the swarm that a relay names."""
        assert self._router is not None
        assert self._group is not None
        kind = dict(self._router.relays).get(route)
        known = {self._peer_id, *self._links.connections()}
        for peer_id in peers:
            if kind is None or peer_id in known:
                continue
            if peer_id not in self._meeting:
                if len(self._meeting) >= MAX_MEMBER_DIALS:
                    continue
                self._meeting.add(peer_id)
                self._group.create_task(self._dial(peer_id), name=f"member {short(peer_id)}")
            # Each relay that names a member is a way to it: one of them may fail.
            self._router.peer(peer_id).add_relay(route, kind)

    async def _dial(self, peer_id: PeerId) -> None:
        try:
            await self._links.connect(peer_id, ())
        except GridError as exc:
            logger.debug("member %s: %s", short(peer_id), exc)
        finally:
            self._meeting.remove(peer_id)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()  # each waiter sees the change that follows its call
        if {relay.peer_id for relay in self.homes} != {relay.peer_id for relay in self._told}:
            self._told = self.homes
            self._on_homes()
        self._on_change()

    # --- better ways ---

    async def improve(self, connection: Connection) -> None:
        """Look for ways without a relay to a peer that this node dialled, while the connection lasts."""
        peer = self._behind(connection)
        if peer is None:
            return
        stream = await connection.open_stream()
        try:
            await self._talk(peer).lead(stream)
        except* GridError as errors:
            logger.debug("paths to %s: %s", short(connection.peer_id), errors.exceptions[0])
        finally:
            stream.reset()  # the connection may go on without

    async def answer(self, stream: Stream, first: Frame) -> None:
        """Help a peer that dialled this node to find ways without a relay, while the stream lasts.

        Raises:
            GridError: the stream broke, or its first frame is no offer.
        """
        offer = decode_relay_message(first)
        if not isinstance(offer, PathOffer):
            raise ProtocolError(f"a stream between peers cannot begin with {type(offer).__name__}")
        peer = self._behind(stream.connection)
        if peer is None:
            stream.reset()
            return
        try:
            await self._talk(peer).follow(stream, offer)
        except* GridError as errors:
            logger.debug("paths to %s: %s", short(stream.connection.peer_id), errors.exceptions[0])
            stream.reset()

    def _behind(self, connection: Connection) -> VirtualPeer | None:
        """Return who carries the packets of `connection`, if they may take several ways."""
        if self._router is None or not is_virtual(connection.virtual_host):
            return None
        return self._router.peer(connection.peer_id)

    def _talk(self, peer: VirtualPeer) -> PathTalk:
        assert self._transport is not None
        return PathTalk(
            peer,
            self._transport.endpoint,
            own=self._addresses,
            observed=lambda: self.observed,
            changed=lambda: self._changed,
            guessing=self._guessing,
        )


async def _first_settled(links: Sequence[RelayLink]) -> None:
    """Wait until one of `links` has succeeded, or all have failed."""
    waiting = {asyncio.ensure_future(link.wait_settled()) for link in links}
    deadline = asyncio.get_running_loop().time() + VISIT_TIMEOUT_S
    try:
        while waiting and not any(link.route for link in links):
            left_s = deadline - asyncio.get_running_loop().time()
            done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return
    finally:
        for task in waiting:
            task.cancel()
