"""Connections to peers: dialled on demand, accepted, and one of them per peer used for new streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, short
from gridnode.errors import BadInput, ConnectionClosed, GridError, PeerLost, ProtocolError, SwarmRefused
from gridnode.net.transport import Connection, Stream, Transport

logger = logging.getLogger("gridnode.node.links")

DIAL_TIMEOUT_S = 5.0
# Two connections may come of a simultaneous dial; more of one peer are of no use.
MAX_CONNECTIONS_PER_PEER = 4
# Connections whose peers have not said yet which swarm they belong to: more than come at once when a large
# swarm meets again. Each lasts some seconds at most.
MAX_ARRIVING = 256
# A connection beside a newer one of the same peer is silent for so long only if that peer forgot it.
RESTART_PATIENCE_S = 2.0
# How often a connection that is to end is looked at: what runs on it may take as long as it likes.
SURPLUS_LOOK_S = 0.5

StreamHandler = Callable[[Stream], Awaitable[None]]
ConnectionHandler = Callable[[Connection], Awaitable[None]]
WayFinder = Callable[[PeerId], Awaitable[Address | None]]
_Target = tuple[PeerId | None, tuple[Address, ...]]


class Links:
    """The connections of a node.

    Args:
        peer_id: Who this node is.
        on_stream: Serves one stream that a peer opened; runs in a task of its own.
        on_connection: Accompanies one connection that this node dialled, while it lasts, or until it is
            cancelled because both ends prefer another one; it leaves no stream open then.
        find_way: Returns the virtual address of a peer, if relays lead to it: tried before its addresses.
        admit: Returns once the peer of a new connection has proven that it belongs to the swarm, or raises.
    """

    def __init__(
        self,
        peer_id: PeerId,
        *,
        on_stream: StreamHandler,
        on_connection: ConnectionHandler,
        admit: ConnectionHandler,
        find_way: WayFinder | None = None,
    ) -> None:
        self.peer_id = peer_id
        self._on_stream = on_stream
        self._on_connection = on_connection
        self._find_way = find_way
        self._admit = admit
        self._num_arriving = 0
        self._transports: Sequence[Transport] = ()
        self._connections: dict[PeerId, list[Connection]] = {}
        self._news: dict[Connection, asyncio.Task[None]] = {}
        self._attempts: dict[_Target, asyncio.Task[Connection | GridError]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self, transports: Sequence[Transport]) -> None:
        """Accept connections and serve their streams until cancelled; then close everything.

        Args:
            transports: Where peers are accepted. The first one also dials peers; the last one
                dials this node itself, so that a hop at home works like any other.
        """
        self._transports = transports
        try:
            async with asyncio.TaskGroup() as self._group:
                for transport in self._transports:
                    self._group.create_task(self._accept(transport), name="accept")
                try:
                    await asyncio.Event().wait()
                finally:
                    self._group = None  # nothing begins any more while the rest ends
        finally:
            for connections in list(self._connections.values()):
                for connection in list(connections):
                    await connection.aclose()
            for transport in self._transports:
                await transport.aclose()

    def connections(self) -> Mapping[PeerId, Connection]:
        """Return the connection to use for each connected peer, this node itself left out."""
        found = {peer_id: self._linked(peer_id) for peer_id in self._connections if peer_id != self.peer_id}
        return {peer_id: connection for peer_id, connection in found.items() if connection is not None}

    @property
    def open_streams(self) -> int:
        """How many streams are open, of both sides, with all peers and with this node itself."""
        return sum(link.streams for links in self._connections.values() for link in links)

    async def connect(self, peer_id: PeerId, addresses: Sequence[Address]) -> Connection:
        """Return a connection to `peer_id`; dial it if there is none. Cancelling is safe.

        Raises:
            PeerLost: it does not answer at any of `addresses`, or somebody else does, or it is in another
                swarm by now, or speaks nonsense.
        """
        try:
            return self._linked(peer_id) or await self._dial_once(peer_id, tuple(addresses))
        except (BadInput, SwarmRefused, ProtocolError) as exc:  # it said that it is at such addresses
            raise PeerLost(str(exc)) from exc

    async def join(self, address: Address) -> Connection:
        """Connect to whoever listens at `address`. Cancelling is safe.

        Raises:
            PeerLost: nobody answers.
            SwarmRefused: a node of another swarm does.
        """
        return await self._dial_once(None, (address,))

    async def _dial_once(self, peer_id: PeerId | None, addresses: tuple[Address, ...]) -> Connection:
        """Share one attempt among all who want the same peer at the same time."""
        target = (peer_id, addresses)
        attempt = self._attempts.get(target)
        if attempt is None:
            if self._group is None:
                raise ConnectionClosed("this node is not running")
            attempt = self._group.create_task(self._attempt(target), name="dial")
            self._attempts[target] = attempt
        # Not awaited itself: its cancellation, when this node stops, is none of whoever asked.
        await asyncio.wait([attempt])
        if attempt.cancelled():
            raise ConnectionClosed("this node is stopping")
        outcome = attempt.result()
        if isinstance(outcome, GridError):
            raise outcome
        return outcome

    async def _attempt(self, target: _Target) -> Connection | GridError:
        """Return the error as a value: raised, it would stop the task group."""
        try:
            return await self._dial(*target)
        except GridError as exc:
            return exc
        finally:
            del self._attempts[target]

    async def _dial(self, peer_id: PeerId | None, addresses: tuple[Address, ...]) -> Connection:
        transport = self._transports[0]
        if peer_id == self.peer_id:
            transport = self._transports[-1]
            addresses = (transport.address,)
        elif peer_id and self._find_way and (virtual := await self._find_way(peer_id)):
            addresses = (virtual, *addresses)
        lost: GridError = PeerLost(f"no address of node {short(peer_id) if peer_id else '?'} is known")
        for address in addresses:
            try:
                connection = await transport.dial(address, peer_id=peer_id, timeout_s=DIAL_TIMEOUT_S)
                await self._let_in(connection)
            except GridError as exc:
                logger.debug("dial %s: %s", address, exc)
                lost = exc
                continue
            self._adopt(connection)
            return connection
        raise lost

    async def _accept(self, transport: Transport) -> None:
        assert self._group is not None
        while True:
            connection = await transport.accept()
            if self._num_arriving < MAX_ARRIVING:
                self._num_arriving += 1
                self._group.create_task(self._receive(connection), name="arrival")
            else:
                self._group.create_task(connection.aclose(), name="refuse")

    async def _receive(self, connection: Connection) -> None:
        """Adopt a connection that a peer dialled, if it may come in."""
        try:
            await self._let_in(connection)
            self._adopt(connection)
        except (SwarmRefused, ProtocolError) as exc:
            logger.warning("%s", exc)
        except GridError as exc:
            logger.debug("%s was not let in: %s", short(connection.peer_id), exc)
        finally:
            self._num_arriving -= 1

    async def _let_in(self, connection: Connection) -> None:
        try:
            await self._admit(connection)
        except BaseException:
            await connection.aclose()
            raise

    def _adopt(self, connection: Connection) -> None:
        assert self._group is not None
        known = self._connections.setdefault(connection.peer_id, [])
        if len(known) >= MAX_CONNECTIONS_PER_PEER:
            self._group.create_task(connection.aclose(), name="refuse")
            return
        for older in known:
            # A peer that was restarted may have its old address, and never heard of these.
            older.suspect(patience_s=RESTART_PATIENCE_S)
        known.append(connection)
        logger.debug("connected to %s at %s", short(connection.peer_id), connection.address)
        self._group.create_task(self._accompany(connection), name=f"link {short(connection.peer_id)}")
        if connection.peer_id != self.peer_id:
            self._settle_on_one(connection.peer_id)

    def _settle_on_one(self, peer_id: PeerId) -> None:
        """Let one connection to a peer remain: who dialled another one ends that."""
        assert self._group is not None
        chosen = self._linked(peer_id)
        for connection in self._connections[peer_id]:
            if chosen is not None and connection is not chosen and connection.is_client:
                self._group.create_task(self._retire(connection, chosen), name=f"surplus {short(peer_id)}")

    async def _retire(self, surplus: Connection, chosen: Connection) -> None:
        """Close `surplus` once nothing runs on it any more, if the peer answers on `chosen`."""
        try:
            await chosen.ping()
        except GridError:
            return  # a peer that was restarted answers on the new one only
        news = self._news.pop(surplus, None)
        if news is None:
            return  # it has ended, or ends already
        news.cancel()
        while True:
            # Streams that wait for this pass of the loop, here or there, are not counted yet.
            await asyncio.sleep(SURPLUS_LOOK_S)
            if not surplus.streams or chosen.is_closed:
                break
        logger.debug("one connection to %s is enough", short(surplus.peer_id))
        await surplus.aclose()

    async def _accompany(self, connection: Connection) -> None:
        """Serve the streams of `connection` while it lasts.

        Its end does not cancel their handlers: what the peer said last, such as its goodbye, is still
        to be read. Each of them ends by itself, at the end of its stream.
        """
        try:
            async with asyncio.TaskGroup() as group:
                if connection.is_client:
                    news = self._guard(self._on_connection(connection))
                    self._news[connection] = group.create_task(news, name="news")
                try:
                    while True:
                        stream = await connection.accept_stream()
                        group.create_task(self._guard(self._on_stream(stream)), name="stream")
                except (PeerLost, ConnectionClosed) as exc:
                    logger.info("link to %s ended: %s", short(connection.peer_id), exc)
                    self._forget(connection)
        finally:
            self._forget(connection)
            await connection.aclose()

    def _forget(self, connection: Connection) -> None:
        self._news.pop(connection, None)
        known = self._connections.get(connection.peer_id, [])
        if connection in known:
            known.remove(connection)
            if not known:
                del self._connections[connection.peer_id]

    async def _guard(self, work: Awaitable[None]) -> None:
        """Keep the failure of one stream from the others: this is the edge of a task that serves a peer."""
        try:
            await work
        except GridError as exc:
            logger.debug("stream ended: %s", exc)
        except Exception:
            logger.exception("a stream handler failed")

    def _linked(self, peer_id: PeerId) -> Connection | None:
        """Return the connection that both ends choose, if any: its client has the smaller peer id."""

        def client_id(connection: Connection) -> PeerId:
            return self.peer_id if connection.is_client else connection.peer_id

        open_ones = (link for link in self._connections.get(peer_id, ()) if not link.is_closed)
        return min(open_ones, key=client_id, default=None)
