"""This node's registration with one relay, kept for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, short
from gridnode.core.relays import Relay
from gridnode.errors import GridError, NoCapacity, PeerLost
from gridnode.net.cancellation import raise_if_cancelled
from gridnode.net.carrier import PathKind
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.transport import Stream
from gridnode.net.tunnel import open_tunnel
from gridnode.net.virtual_peer import RelayRoute
from gridnode.wire.codec import encode_message
from gridnode.wire.relay_messages import (
    FindMembers,
    Members,
    Observed,
    Register,
    Registered,
    RelayRefused,
    decode_relay_message,
)

logger = logging.getLogger("gridnode.net.relay")

# Five lost packets: UDP that does not get through must not cost much before TCP is tried.
UDP_TIMEOUT_S = 1.5
ANSWER_TIMEOUT_S = 5.0
# How often a node that uses TCP looks whether UDP gets through.
UDP_RETEST_S = 60.0
MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
# Between messages of a relay, which has something to say every second at most: what it says of this node's
# address goes to all peers.
READ_INTERVAL_S = 0.1
# How often to ask who else is there: at once, and while this node is alone.
FIND_INTERVAL_S = 5.0


class RelayLink:
    """Registers with a relay, and again whenever that ends. Run it once, with `run`.

    Args:
        tags: Returns what the swarm is called before relays; nothing for a visit to whose relay it is.
        on_members: Takes who else of the swarm is registered there.
        on_change: Called after every change of what the properties say.
        is_alone: Returns whether this node looks for others.
    """

    def __init__(
        self,
        relay: Relay,
        transport: QuicTransport,
        router: PathRouter,
        *,
        tags: Callable[[], tuple[str, ...]],
        on_members: Callable[[RelayRoute, tuple[PeerId, ...]], None],
        on_change: Callable[[], None],
        is_alone: Callable[[], bool],
    ) -> None:
        self.relay = relay
        self.route: RelayRoute | None = None
        """How packets get there; None while this node is not registered."""

        self.observed: Address | None = None
        """Where the relay sees this node; None if it was not by UDP."""

        self.problem = ""
        """Why this node is not registered, if it was tried."""

        self._transport = transport
        self._router = router
        self._tags = tags
        self._on_members = on_members
        self._on_change = on_change
        self._is_alone = is_alone
        self._connection: QuicConnection | None = None
        self._settled = asyncio.Event()

    @property
    def home(self) -> Relay | None:
        """The relay with its proven id, as others may use it; None while this node is not registered."""
        return self.relay._replace(peer_id=self.route.relay) if self.route else None

    @property
    def rtt_s(self) -> float:
        """Round-trip time to the relay."""
        return (self._connection.rtt_s if self._connection else None) or 0.0

    async def wait_settled(self) -> None:
        """Wait until the first attempt has succeeded or failed. Cancelling is safe."""
        await self._settled.wait()

    def suspect(self, *, patience_s: float = 0.0) -> None:
        """Take the hint that this computer has moved."""
        if self._connection is not None:
            self._connection.suspect(patience_s=patience_s)

    async def run(self) -> None:
        """Stay registered until cancelled, with growing waits after failures."""
        now = asyncio.get_running_loop().time
        backoff_s = MIN_BACKOFF_S
        while True:
            began_at = now()
            try:
                await self._register_once()
            except* GridError as errors:
                problem = str(_first(errors))
                if problem != self.problem:
                    logger.warning("relay %s: %s", self.relay.place, problem)
                    self.problem = problem
                    self._on_change()
            self._settled.set()
            raise_if_cancelled()
            backoff_s = (
                MIN_BACKOFF_S if now() - began_at > MAX_BACKOFF_S else min(2 * backoff_s, MAX_BACKOFF_S)
            )
            await asyncio.sleep(backoff_s)

    async def _register_once(self) -> None:
        """Register by UDP, or else by TCP, and raise when that has ended."""
        try:
            connection = await self._connect_by_udp()
        except PeerLost as exc:
            logger.info("relay %s does not answer by UDP: %s", self.relay.place, exc)
            await self._register_by_tcp()
        else:
            await self._register(connection)

    async def _register(self, connection: QuicConnection) -> None:
        """Register, and raise when that has ended."""
        try:
            stream = await connection.open_stream()
            tags = self._tags()
            await stream.send(encode_message(Register(swarms=tags)))
            await self._take_answer(stream)
            self._connection = connection
            by_tcp = connection.path is PathKind.WEBSOCKET
            self.route = self._router.add_relay(
                connection.peer_id,
                connection.current_destination,
                PathKind.WEBSOCKET if by_tcp else PathKind.RELAY,
            )
            self.problem = ""
            logger.info("registered with relay %s at %s", short(connection.peer_id), connection.address)
            self._on_change()
            self._settled.set()
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._ask(stream, tags), name="find members")
                try:
                    await self._listen(stream, self.route)
                finally:
                    asking.cancel()
        finally:
            if self.route is not None:
                self._router.remove_relay(self.route)
            self._connection = self.route = self.observed = None
            await connection.aclose()
            self._on_change()

    async def _connect_by_udp(self) -> QuicConnection:
        address = await resolve(self.relay)
        return await self._transport.dial_relay(address, peer_id=self.relay.peer_id, timeout_s=UDP_TIMEOUT_S)

    async def _register_by_tcp(self) -> None:
        """Register through a WebSocket, until UDP works again."""
        tunnel = await open_tunnel(await resolve(self.relay), self._transport.endpoint)
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(tunnel.run(), name="tunnel")
            watching: asyncio.Task[None] | None = None
            try:
                connection = await self._transport.dial_relay(
                    tunnel.address, peer_id=self.relay.peer_id, timeout_s=ANSWER_TIMEOUT_S
                )
                watching = group.create_task(self._wait_udp(connection), name="udp again")
                carrying.add_done_callback(lambda _: connection.close(PeerLost("the WebSocket closed")))
                await self._register(connection)
            finally:
                carrying.cancel()
                if watching is not None:
                    watching.cancel()

    async def _wait_udp(self, connection: QuicConnection) -> None:
        """Close `connection`, which goes by TCP, once the relay answers by UDP."""
        while True:
            await asyncio.sleep(UDP_RETEST_S)
            with contextlib.suppress(GridError):
                await (await self._connect_by_udp()).aclose()
                connection.close(PeerLost("UDP gets through again"))
                return

    async def _take_answer(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                frame = await stream.receive()
        except TimeoutError:
            raise PeerLost("the relay does not answer") from None
        answer = decode_relay_message(frame) if frame else None
        if isinstance(answer, RelayRefused):
            raise NoCapacity(f"the relay refused this node: {answer.text}")
        if not isinstance(answer, Registered):
            raise PeerLost("the relay ended the registration")

    async def _ask(self, stream: Stream, told: tuple[str, ...]) -> None:
        is_first = True
        while True:
            if (tags := self._tags()) != told:
                await stream.send(encode_message(Register(swarms=tags)))
                told, is_first = tags, True
            if tags and (is_first or self._is_alone()):
                await stream.send(encode_message(FindMembers()))
            is_first = False
            await asyncio.sleep(FIND_INTERVAL_S)

    async def _listen(self, stream: Stream, route: RelayRoute) -> None:
        while (frame := await stream.receive()) is not None:
            message = decode_relay_message(frame)
            if isinstance(message, Observed):
                self.observed = message.address
                self._on_change()
            elif isinstance(message, Members):
                self._on_members(route, message.peers)
            await asyncio.sleep(READ_INTERVAL_S)
        raise PeerLost("the relay ended the registration")


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def resolve(relay: Relay) -> Address:
    """Return an IP address of a relay, IPv4 if it has one.

    Raises:
        PeerLost: its name leads nowhere.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(relay.host, relay.port, type=socket.SOCK_DGRAM)
    except OSError as exc:
        raise PeerLost(f"the name {relay.host} leads nowhere: {exc.strerror or exc}") from None
    except (UnicodeError, OverflowError):
        raise PeerLost(f"{relay.place} is no name and port of a computer") from None
    hosts = sorted((str(entry[4][0]) for entry in found), key=lambda host: ":" in host)
    return Address(hosts[0], relay.port)
