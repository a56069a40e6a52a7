"""What every transport offers: QUIC with its lanes, and the in-memory one of the tests.

The same contract tests run on all of them (`tests/integration/test_transport_*.py`).
"""

from __future__ import annotations

from typing import Protocol

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.net.carrier import PathKind
from gridnode.wire.frames import Frame


class Stream(Protocol):
    """One ordered channel of frames in a connection, both ways.

    Sending waits for credit that the receiver grants as it reads, so that neither side
    buffers more than `gridnode.wire.credit.CREDIT_BYTES` and one frame of a stream.
    A stream stays in the connection's table until both sides have finished it, or one has reset it:
    whoever does not need it any more must do one of them. Frame types below 0x10 belong to the transport.
    """

    @property
    def connection(self) -> Connection:
        """The connection that this stream is part of."""
        ...

    async def send(self, frame: Frame) -> None:
        """Send one frame; wait while the peer has granted no credit, or too much is not acknowledged.

        Returning does not mean that the peer has it. Cancelling is safe: either the whole frame is
        sent or nothing of it.

        Raises:
            FrameTooLarge: the frame exceeds the limit.
            ConnectionClosed: this side closed the stream or the connection.
            PeerLost: the peer reset the stream, or the connection is gone.
        """
        ...

    async def receive(self) -> Frame | None:
        """Return the next frame, or None after the peer finished the stream.

        Cancelling is safe: no frame is lost. One task at a time. Frames that arrived before the connection
        was lost are returned first; a reset drops them.

        Raises:
            ProtocolError: the peer sent something that is not a frame.
            ConnectionClosed: this side closed the stream or the connection.
            PeerLost: the peer reset the stream, or the connection is gone.
        """
        ...

    async def wait_lost(self) -> None:
        """Wait until the stream is dropped, by either side, or its connection is gone. Cancelling is safe.

        A stream that both sides finished in order is not lost.
        """
        ...

    def finish(self) -> None:
        """Say that no more frames follow. The other direction stays open. Safe to call twice."""
        ...

    def reset(self) -> None:
        """Drop the stream in both directions; the peer gets `PeerLost`. Safe to call twice."""
        ...


class Connection(Protocol):
    """One authenticated, encrypted link to a peer, with many streams."""

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end, proven by its certificate."""
        ...

    @property
    def address(self) -> Address:
        """Where the peer's packets come from."""
        ...

    @property
    def path(self) -> PathKind:
        """The way that packets take now."""
        ...

    @property
    def virtual_host(self) -> str:
        """The virtual address that stands for the peer if packets may take several ways; empty otherwise."""
        ...

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round-trip time in seconds, or None before the first measurement."""
        ...

    @property
    def is_client(self) -> bool:
        """Whether this side dialled."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether the connection is gone."""
        ...

    @property
    def streams(self) -> int:
        """How many streams are open, of both sides."""
        ...

    async def ping(self) -> float:
        """Ask the peer for a sign of life and return the seconds until it came. Cancelling is safe.

        Raises:
            ConnectionClosed: this side closed the connection.
            PeerLost: the peer or the network ended it, or there was no answer.
        """
        ...

    def suspect(self, *, patience_s: float = 0.0) -> None:
        """Take the hint that the peer cannot be reached this way any more: ask, and believe silence soon.

        Args:
            patience_s: How long to wait for an answer at least.
        """
        ...

    async def open_stream(self) -> Stream:
        """Open a stream to the peer. It is known there once a frame was sent.

        Raises:
            ConnectionClosed: this side closed the connection.
            NoCapacity: all streams that the peer allows are open.
            PeerLost: the peer or the network ended the connection.
        """
        ...

    async def open_lane(self) -> Stream:
        """Open a stream for much data or many small steps: the fastest kind that the way to the peer allows.

        Raises:
            ConnectionClosed, NoCapacity, PeerLost: as `open_stream`.
        """
        ...

    async def accept_stream(self) -> Stream:
        """Return the next stream that the peer opened. Cancelling is safe.

        Raises:
            ConnectionClosed: this side closed the connection.
            PeerLost: the peer or the network ended it.
        """
        ...

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, for whatever reason. Cancelling is safe."""
        ...

    async def aclose(self) -> None:
        """Close the connection and all its streams at once. Safe to call more than once.

        Frames that have not arrived may never do: wait for an answer before, if they matter.
        """
        ...


class Transport(Protocol):
    """Dials and accepts connections on one address."""

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        ...

    @property
    def address(self) -> Address:
        """Where we listen, with the real port."""
        ...

    async def dial(self, address: Address, *, peer_id: PeerId | None, timeout_s: float) -> Connection:
        """Connect to `address`; if `peer_id` is given, accept nobody else there.

        Cancelling is safe: nothing of the attempt remains.

        Raises:
            BadInput: `address` is not an IP address that this node's socket can reach.
            ConnectionClosed: this transport was closed.
            Unauthentic: somebody else answered, or without a proper certificate; or it refused ours.
            ProtocolError: the peer speaks another protocol or version.
            PeerLost: nobody answered in time.
        """
        ...

    async def accept(self) -> Connection:
        """Return the next connection that a peer dialled, after its handshake. Cancelling is safe."""
        ...

    async def aclose(self) -> None:
        """Close every connection and the socket. Safe to call more than once."""
        ...
