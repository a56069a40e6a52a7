"""A network in memory for tests: the same frames, bytes and credit, without sockets.

Delay, jitter and loss act on what a stream writes. A reliable, ordered channel turns a lost packet into a
late one, so loss here means an extra delay. The random numbers come from the seed, one generator for
each direction of a connection, so that a test sees the same delays every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, short
from gridnode.errors import ConnectionClosed, GridError, NoCapacity, PeerLost, Unauthentic
from gridnode.net.base_connection import BaseConnection
from gridnode.net.carrier import PathKind
from gridnode.net.framed_stream import (
    MAX_UNACKED_CONNECTION_BYTES,
    MAX_UNACKED_STREAM_BYTES,
    CloseCode,
    FramedStream,
    Piece,
)
from gridnode.net.mailbox import Mailbox

Action = Callable[[], None]

MAX_STREAMS = 128
"""Streams that a peer may have open at once, as over QUIC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """What the way between any two nodes is like, in each direction."""

    delay_s: float = 0.0
    """One-way delay."""

    jitter_s: float = 0.0
    """Up to this much is added, at random."""

    loss: float = 0.0
    """Probability that a write has to be sent again."""

    resend_s: float = 0.05
    """What sending again costs."""


class MemoryNetwork:
    """Connects the `MemoryTransport`s that were made with it."""

    def __init__(self, *, seed: int = 0, quality: LinkQuality | None = None) -> None:
        self.quality = quality or LinkQuality()
        self._seed = seed
        self._transports: dict[Address, MemoryTransport] = {}
        self._cuts: set[frozenset[PeerId]] = set()
        self._ports = itertools.count(10_000)

    def transport(self, peer_id: PeerId) -> MemoryTransport:
        """Return a new node on this network."""
        address = Address("192.0.2.1", next(self._ports))
        transport = self._transports[address] = MemoryTransport(self, peer_id, address)
        return transport

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Break the connections between two nodes; both see the other as lost, until `heal`."""
        self._cuts.add(frozenset((one, other)))
        for connection in self._connections():
            if {connection.own_id, connection.peer_id} == {one, other}:
                connection.lose("the way to it was cut")

    def heal(self, one: PeerId, other: PeerId) -> None:
        """Let two nodes connect again."""
        self._cuts.discard(frozenset((one, other)))

    def kill(self, peer_id: PeerId) -> None:
        """Make a node vanish without a word: every other node loses it."""
        for connection in self._connections():
            if connection.peer_id == peer_id:
                connection.lose("it was killed")
            elif connection.own_id == peer_id:
                connection.end(ConnectionClosed("this node was killed"))
        for address in [at for at, transport in self._transports.items() if transport.peer_id == peer_id]:
            del self._transports[address]

    def listener(self, address: Address, *, dialled_by: PeerId) -> MemoryTransport | None:
        """Return who answers at `address`, or None if nobody does."""
        found = self._transports.get(address)
        if found is None or frozenset((found.peer_id, dialled_by)) in self._cuts:
            return None
        return found

    def leave(self, address: Address) -> None:
        """Forget a node that closed its transport."""
        self._transports.pop(address, None)

    def generator(self, one: PeerId, other: PeerId) -> random.Random:
        """Return the random numbers for what travels from `one` to `other`."""
        return random.Random(f"{self._seed}:{one.hex()}:{other.hex()}")

    def _connections(self) -> list[MemoryConnection]:
        return [item for transport in self._transports.values() for item in transport.connections]


class MemoryTransport:
    """A node on a `MemoryNetwork`; see `gridnode.net.transport.Transport`."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId, address: Address) -> None:
        self._network = network
        self._peer_id = peer_id
        self._address = address
        self._accepted: Mailbox[MemoryConnection] = Mailbox()
        self.connections: list[MemoryConnection] = []

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self._peer_id

    @property
    def address(self) -> Address:
        """Where we listen."""
        return self._address

    async def dial(self, address: Address, *, peer_id: PeerId | None, timeout_s: float) -> MemoryConnection:
        """Connect to `address`; see `gridnode.net.transport.Transport.dial`."""
        self._accepted.raise_if_closed()
        found = self._network.listener(address, dialled_by=self._peer_id)
        if found is None:
            await asyncio.sleep(timeout_s)
            raise PeerLost(f"nobody answered at {address} within {timeout_s:g} s")
        await asyncio.sleep(2 * self._network.quality.delay_s)
        if peer_id is not None and found.peer_id != peer_id:
            raise Unauthentic(f"{address}: node {short(found.peer_id)} answered instead of {short(peer_id)}")
        near = MemoryConnection(self, found, is_client=True)
        far = MemoryConnection(found, self, is_client=False)
        near.far, far.far = far, near
        self.connections.append(near)
        found.receive_connection(far)
        return near

    async def accept(self) -> MemoryConnection:
        """Return the next connection that a peer dialled."""
        return await self._accepted.get()

    async def aclose(self) -> None:
        """Close every connection. Safe to call more than once."""
        self._network.leave(self._address)
        self._accepted.close(ConnectionClosed("this node closed its network socket"))
        for connection in list(self.connections):
            await connection.aclose()

    @property
    def network(self) -> MemoryNetwork:
        """The network that this node is on."""
        return self._network

    def receive_connection(self, connection: MemoryConnection) -> None:
        """Take a connection that a peer dialled."""
        self.connections.append(connection)
        self._accepted.put(connection)


class MemoryConnection(BaseConnection):
    """One end of a connection in memory; see `gridnode.net.transport.Connection`."""

    far: MemoryConnection
    """The other end."""

    def __init__(self, own: MemoryTransport, peer: MemoryTransport, *, is_client: bool) -> None:
        super().__init__()
        self._own = own
        self._peer = peer
        self._is_client = is_client
        self._random = own.network.generator(own.peer_id, peer.peer_id)
        self._next_stream_id = 0 if is_client else 1
        self._opened_by_peer: set[int] = set()
        self.unacked_bytes = 0

    @property
    def own_id(self) -> PeerId:
        """Who is at this end."""
        return self._own.peer_id

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end."""
        return self._peer.peer_id

    @property
    def address(self) -> Address:
        """Where the peer listens."""
        return self._peer.address

    async def ping(self) -> float:
        """Return how long a message travels there and back; see `gridnode.net.transport.Connection.ping`."""
        delay_s = self.delay_s() + self.far.delay_s()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self.wait_closed()
        self._raise_if_gone()
        return delay_s

    def suspect(self, *, patience_s: float = 0.0) -> None:
        """Do nothing: in memory, a way that is cut is known to be at once."""

    @property
    def path(self) -> PathKind:
        """Always direct."""
        return PathKind.DIRECT

    @property
    def virtual_host(self) -> str:
        """None: there is one way."""
        return ""

    @property
    def rtt_s(self) -> float | None:
        """Twice the delay of the network."""
        return 2 * self._own.network.quality.delay_s

    @property
    def is_client(self) -> bool:
        """Whether this side dialled."""
        return self._is_client

    async def open_stream(self) -> MemoryStream:
        """Open a stream; see `gridnode.net.transport.Connection.open_stream`."""
        self._raise_if_gone()
        if sum(stream_id % 2 == self._next_stream_id % 2 for stream_id in self._streams) >= MAX_STREAMS:
            raise NoCapacity(f"all {MAX_STREAMS} streams that node {short(self.peer_id)} allows are open")
        stream_id, self._next_stream_id = self._next_stream_id, self._next_stream_id + 2
        return self._make_stream(stream_id, is_ours=True)

    async def open_lane(self) -> MemoryStream:
        """Open a stream; nothing is faster than memory."""
        return await self.open_stream()

    async def aclose(self) -> None:
        """Close the connection and all its streams. Safe to call more than once."""
        self.end(self._closed_by_us())
        self.far.end(PeerLost(f"node {short(self.own_id)} closed the connection (dropped)"))

    def lose(self, reason: str) -> None:
        """End the connection on this side because the other is out of reach."""
        self.end(PeerLost(f"node {short(self.peer_id)} is lost: {reason}"))

    def end(self, error: GridError) -> None:
        """End the connection on this side."""
        if self in self._own.connections:
            self._own.connections.remove(self)
        self._fail(error)

    def stream(self, stream_id: int) -> MemoryStream | None:
        """Return the stream, or None if it is gone."""
        found = self._streams.get(stream_id)
        assert found is None or isinstance(found, MemoryStream)
        return found

    def stream_for_data(self, stream_id: int) -> MemoryStream | None:
        """Return the stream that bytes have arrived for, or None if it is gone; the first ones open it."""
        if stream_id % 2 == self._next_stream_id % 2 or stream_id in self._opened_by_peer:
            return self.stream(stream_id)
        self._opened_by_peer.add(stream_id)
        return self._make_stream(stream_id, is_ours=False)

    def resume_streams(self) -> None:
        """Let every sender look again whether it may send."""
        for stream in list(self._streams.values()):
            stream.resume_sending()

    def delay_s(self) -> float:
        """Return how long the next write travels."""
        quality = self._own.network.quality
        delay_s = quality.delay_s + quality.jitter_s * self._random.random()
        while self._random.random() < quality.loss:
            delay_s += quality.resend_s
        return delay_s

    def _make_stream(self, stream_id: int, *, is_ours: bool) -> MemoryStream:
        stream = MemoryStream(self, stream_id)
        self.adopt_stream(stream_id, stream, is_ours=is_ours)
        return stream


class MemoryStream(FramedStream):
    """One end of a stream in memory."""

    def __init__(self, owner: MemoryConnection, stream_id: int) -> None:
        super().__init__(owner, peer=short(owner.peer_id))
        self._owner = owner
        self._stream_id = stream_id
        self._loop = asyncio.get_running_loop()
        self._arrives_at = 0.0  # of the last write: a stream is ordered
        self._travelling: deque[Action] = deque()
        self._unacked_bytes = 0

    def _write(self, pieces: Sequence[Piece]) -> None:
        data = b"".join(pieces)
        self._unacked_bytes += len(data)
        self._owner.unacked_bytes += len(data)
        self._send_later(lambda: self._data_arrived(data))

    def _write_end(self) -> None:
        self._send_later(self._end_arrived)

    def _write_reset(self, code: CloseCode) -> None:
        self._send_later(lambda: self._reset_arrived(code))

    def _is_below_watermark(self) -> bool:
        return (
            self._unacked_bytes < MAX_UNACKED_STREAM_BYTES
            and self._owner.unacked_bytes < MAX_UNACKED_CONNECTION_BYTES
        )

    def _forget(self) -> None:
        self._owner.forget_stream(self._stream_id)

    def _send_later(self, action: Action) -> None:
        """Run `action` for the other end when it gets there."""
        self._arrives_at = max(self._arrives_at, self._loop.time() + self._owner.delay_s())
        self._travelling.append(action)
        self._loop.call_at(self._arrives_at, self._arrive)

    def _arrive(self) -> None:
        # The loop does not order timers of the same moment, so each of them takes what was sent first.
        action = self._travelling.popleft()
        if not self._owner.far.is_closed:
            action()

    def _data_arrived(self, data: bytes) -> None:
        self._unacked_bytes -= len(data)
        self._owner.unacked_bytes -= len(data)
        far = self._owner.far.stream_for_data(self._stream_id)
        if far is not None:
            far.data_received(data)
        self._owner.resume_streams()

    def _end_arrived(self) -> None:
        far = self._owner.far.stream_for_data(self._stream_id)
        if far is not None:
            far.end_received()

    def _reset_arrived(self, code: CloseCode) -> None:
        far = self._owner.far.stream(self._stream_id)
        if far is not None:
            # As over QUIC, the other side answers a reset with its own, and says no more.
            far.reset_received(code, has_ended_by_peer=True)
        elif not self._owner.is_closed:
            self._has_ended_by_peer = True
            self._forget()
