"""A peer behind a virtual address: its packets take the ways that `gridnode.net.paths` chooses."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.core.relays import virtual_address
from gridnode.net.carrier import PathKind
from gridnode.net.clock import now_s
from gridnode.net.endpoint import QUIC_BIT, Endpoint
from gridnode.net.guess_sockets import GuessedRoute, GuessSockets
from gridnode.net.paths import Path, PeerPaths, Sending
from gridnode.net.timer import LazyTimer
from gridnode.net.udp import Datagram, SocketAddress
from gridnode.wire.relay_packets import PROBE_BYTE, SECRET_BYTES, Probe, forward, parse_probe


class DirectRoute(NamedTuple):
    """Straight to an address."""

    address: SocketAddress


class RelayRoute(NamedTuple):
    """Through a relay that this node is registered with."""

    relay: PeerId
    destination: SocketAddress
    """Where packets for the relay go: an address, or the virtual one of a WebSocket."""


class VirtualPeer:
    """Carries packets to one peer; see `gridnode.net.carrier.Carrier`.

    Args:
        tag: Of the peer.
        own_tag: Ours.
        is_translated: Returns whether a router changes the addresses of our packets on their way to others.
        on_change: Called when packets begin to take another way.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tag: bytes,
        own_tag: bytes,
        is_translated: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self.tag = tag
        self.address = virtual_address(tag)
        self.followed_at = -math.inf
        """When the peer last had us send probes, over whichever stream."""

        self.guessed_at = -math.inf
        """When one side last guessed at ports of the other."""

        self.paths = PeerPaths(
            tag=own_tag, secret=os.urandom(SECRET_BYTES), first_number=int.from_bytes(os.urandom(7), "big")
        )
        self._endpoint = endpoint
        self._is_translated = is_translated
        self._on_change = on_change
        self._timer = LazyTimer(self._timer_fired)
        self._relays: set[PeerId] = set()
        self._own_hosts: frozenset[str] = frozenset()
        self._guess_sockets: GuessSockets | None = None
        endpoint.carry(self.address, self)

    def close(self) -> None:
        """Carry nothing any more."""
        self._timer.cancel()
        self._close_guess_sockets()
        self._endpoint.drop(self.address)

    # --- Carrier ---

    @property
    def kind(self) -> PathKind:
        """The way that packets take now."""
        path = self._present()
        return path.kind if path else PathKind.RELAY

    @property
    def real_address(self) -> Address | None:
        """The peer's address, or that of the relay; None while there is no way."""
        path = self._present()
        if path is None:
            return None
        route = path.route
        if isinstance(route, RelayRoute):
            return self._endpoint.real_address(route.destination)
        assert isinstance(route, DirectRoute | GuessedRoute)
        return self._endpoint.real_address(route.address)

    @property
    def direct_way(self) -> DirectRoute | GuessedRoute | None:
        """The one way that packets take now, if there is no relay on it; None otherwise."""
        if self.paths.active is None or not self.paths.has_direct:
            return None
        assert isinstance(self.paths.active.route, DirectRoute | GuessedRoute)
        return self.paths.active.route

    def send(self, datagrams: list[Datagram]) -> None:
        """Send datagrams to the peer. They may get lost."""
        outgoing: list[Datagram] = []
        for route in self.paths.routes():
            if isinstance(route, RelayRoute):
                outgoing += [(forward(self.tag, data), route.destination) for data, _ in datagrams]
            elif isinstance(route, DirectRoute):
                outgoing += [(data, route.address) for data, _ in datagrams]
            elif isinstance(route, GuessedRoute) and self._guess_sockets is not None:
                self._guess_sockets.send([(data, route.address) for data, _ in datagrams], route)
        if outgoing:
            self._endpoint.send(outgoing)
        self._set_timer()

    def doubt(self) -> None:
        """Take the hint that the present way may have ended."""
        self.paths.doubt(now=now_s())
        self._set_timer()

    # --- ways ---

    def add_relay(self, route: RelayRoute, kind: PathKind) -> None:
        """Learn that the peer may be reached through a relay."""
        self._relays.add(route.relay)
        self.paths.add(route, kind)

    def relay_is_back(self, route: RelayRoute, kind: PathKind) -> None:
        """Use a relay again that this node has registered with anew, if it ever led to the peer."""
        if route.relay in self._relays:
            self.paths.add(route, kind)
            self.paths.prove_relays(now=now_s())
            self._set_timer()

    def absent(self, route: RelayRoute) -> None:
        """Take the word of a relay that it does not know the peer, which may be about to come back."""
        if any(connection.is_established for connection in self._endpoint.connections_to(self.address)):
            self.doubt()
        else:
            self.remove(route)

    def remove(self, route: RelayRoute | DirectRoute | GuessedRoute) -> None:
        """Forget a way."""
        if self.paths.remove(route):
            self._changed()

    def accept_offer(self, secret: bytes, own_hosts: Collection[str]) -> None:
        """Take what the peer says of itself: how probes to it are made, and its own addresses."""
        self.paths.accept_secret(secret)
        self._own_hosts = frozenset(own_hosts)
        self.paths.prove_relays(now=now_s())
        self._set_timer()

    def open_to(self, addresses: Collection[SocketAddress]) -> None:
        """Let our router expect probes from where the peer may be."""
        self.paths.open_to(self._routes(addresses), now=now_s())
        self._timer_fired()  # at once: the peer will be asked to send the next moment

    def punch(self, addresses: Collection[SocketAddress]) -> None:
        """Send probes to where the peer may be."""
        self.paths.begin_round(self._routes(addresses), now=now_s())
        self._timer_fired()

    def _routes(self, addresses: Collection[SocketAddress]) -> list[DirectRoute]:
        routes = [DirectRoute(address) for address in addresses]
        for route in routes:
            self.paths.add(route, self._kind_of(route.address))
        return routes

    def receive_probe(
        self, probe: Probe, route: DirectRoute | RelayRoute | GuessedRoute, kind: PathKind | None = None
    ) -> None:
        """Take a probe that came by `route`."""
        if not probe.is_made_with(self.paths.secret):
            return  # before more time is spent on what a stranger sends
        if kind is None:
            assert isinstance(route, DirectRoute)
            kind = self._kind_of(route.address)
        self._act(lambda: self.paths.receive(probe, route, kind, now=now_s()))

    def _kind_of(self, address: SocketAddress) -> PathKind:
        host = self._endpoint.real_address(address).host
        is_direct = host in self._own_hosts or not self._is_translated()
        return PathKind.DIRECT if is_direct else PathKind.PUNCHED

    # --- ways found by chance ---

    def expect_guesses(self, source: SocketAddress, *, hops: int | None) -> asyncio.Event:
        """Let our router open many ports for probes from `source`; return the event that the first one sets.

        Args:
            hops: Routers that the packets which do this may pass; None is no limit.
        """
        self._close_guess_sockets()
        self._guess_sockets = GuessSockets(
            self._endpoint.address.host,
            source,
            is_proof=self._is_proof,
            on_packet=self._guess_received,
            on_batch=lambda: self._endpoint.receive((), self.address),
        )
        self._guess_sockets.open(hops=hops)
        return self._guess_sockets.found

    def end_guesses(self) -> None:
        """Close the sockets of `expect_guesses`, unless one of them was found."""
        if self._guess_sockets is not None and self._guess_sockets.kept is None:
            self._close_guess_sockets()

    def guess(self, host: SocketAddress, ports: Collection[int]) -> None:
        """Send a probe to each of `ports` of a host, most of which lead nowhere."""
        data = self.paths.guess()
        self._endpoint.send([(data, (host[0], port, *host[2:])) for port in ports])

    def _is_proof(self, data: bytes) -> bool:
        """Return whether a packet can only come from the peer."""
        probe = parse_probe(data) if data[0] == PROBE_BYTE else None
        return probe is not None and probe.tag == self.tag and probe.is_made_with(self.paths.secret)

    def _guess_received(self, data: bytes, route: GuessedRoute) -> None:
        """Take a packet that came to the socket that was found."""
        if data[0] & QUIC_BIT:
            self._endpoint.receive_one(data, self.address)
        elif data[0] == PROBE_BYTE and (probe := parse_probe(data)) is not None:
            is_new = not self._knows(route)
            self.receive_probe(probe, route, PathKind.PUNCHED)
            if is_new and self._knows(route):
                self.paths.begin_round([route], now=now_s())  # one lost probe must not lose the way
                self._timer_fired()

    def _knows(self, route: GuessedRoute) -> bool:
        return any(path.route == route for path in self.paths.paths())

    def _tidy_guesses(self) -> None:
        """Close the socket that was found when packets go a better way, or that way was given up."""
        kept = self._guess_sockets.kept if self._guess_sockets else None
        if kept is None:
            return
        active = self.paths.active
        if self.paths.has_direct and active is not None and active.route != kept:
            self.paths.remove(kept)
        if not self._knows(kept):
            self._close_guess_sockets()

    def _close_guess_sockets(self) -> None:
        if self._guess_sockets is not None:
            self._guess_sockets.close()
            self._guess_sockets = None

    def _present(self) -> Path | None:
        return self.paths.active or next((path for path in self.paths.paths() if path.is_relayed), None)

    def _timer_fired(self) -> None:
        due = self.paths.next_deadline()
        if due is not None and now_s() >= due:
            self._act(lambda: self.paths.handle_timer(now=now_s()))
        else:
            self._set_timer()

    def _act(self, work: Callable[[], list[Sending]]) -> None:
        """Send what `work` wants to be sent; tell the connections what it found out."""
        active, was_in_doubt = self.paths.active, self.paths.is_in_doubt
        for sending in work():
            self._send_probe(sending)
        if self.paths.is_hopeless(now=now_s()) and not self._endpoint.connections_to(self.address):
            self.paths.rest()  # nobody waits for an answer that may never come
        if self.paths.active is not active:
            self._changed()
        elif self.paths.is_in_doubt and not was_in_doubt:
            for connection in self._endpoint.connections_to(self.address):
                connection.hurry()
        self._tidy_guesses()
        self._set_timer()

    def _changed(self) -> None:
        for connection in self._endpoint.connections_to(self.address):
            connection.path_changed()
        self._on_change()

    def _send_probe(self, sending: Sending) -> None:
        route = sending.route
        if isinstance(route, RelayRoute):
            self._endpoint.send_raw(forward(self.tag, sending.data), route.destination)
        elif isinstance(route, DirectRoute):
            self._endpoint.send_raw(sending.data, route.address, hops=sending.hops)
        elif isinstance(route, GuessedRoute) and self._guess_sockets is not None:
            self._guess_sockets.send([(sending.data, route.address)], route)

    def _set_timer(self) -> None:
        due = self.paths.next_deadline()
        if due is not None:
            self._timer.set(due - now_s())
