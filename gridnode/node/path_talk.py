"""Two peers tell each other where they may be reached without a relay, and try it at the same time."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence

from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_ADDRESSES
from gridnode.errors import BadInput, ProtocolError
from gridnode.net.endpoint import Endpoint
from gridnode.net.paths import ROUND_S
from gridnode.net.transport import Stream
from gridnode.net.udp import SocketAddress
from gridnode.net.virtual_peer import VirtualPeer
from gridnode.wire.codec import encode_message
from gridnode.wire.relay_messages import PathOffer, Punch, decode_relay_message

logger = logging.getLogger("gridnode.node.paths")

# Routers forget packets that nobody answered after 30 seconds, wrong ones too: the second round begins
# when they have.
RETRY_S = 40.0
LATER_RETRY_S = 60.0


class PathTalk:
    """What one side of a connection through relays does to find a better way.

    Args:
        own: Returns the addresses of this computer.
        observed: Returns where relays see it.
        changed: Returns the event that the next change of these, or of ways, sets.
    """

    def __init__(
        self,
        peer: VirtualPeer,
        endpoint: Endpoint,
        *,
        own: Callable[[], Sequence[Address]],
        observed: Callable[[], Sequence[Address]],
        changed: Callable[[], asyncio.Event],
    ) -> None:
        self._peer = peer
        self._endpoint = endpoint
        self._own = own
        self._observed = observed
        self._changed = changed
        self._offer: PathOffer | None = None
        self._heard = asyncio.Event()
        self._followed_at = -ROUND_S
        self._leads = False

    async def lead(self, stream: Stream) -> None:
        """Exchange offers and decide when to try, while the stream lasts: the part of who dialled.

        Raises:
            GridError: the stream broke.
        """
        self._leads = True
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._tell(stream), name="offers"),
                group.create_task(self._decide(stream), name="punch"),
            ]
            try:
                await self._listen(stream)
            finally:
                for task in tasks:
                    task.cancel()

    async def follow(self, stream: Stream, offer: PathOffer) -> None:
        """Exchange offers, and try when the other side says so, while the stream lasts.

        Raises:
            GridError: the stream broke.
        """
        self._take(offer)
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell(stream), name="offers")
            try:
                await self._listen(stream)
            finally:
                telling.cancel()

    async def _listen(self, stream: Stream) -> None:
        while (frame := await stream.receive()) is not None:
            message = decode_relay_message(frame)
            if isinstance(message, PathOffer):
                self._take(message)
            elif isinstance(message, Punch):
                await self._punched(stream)
            else:
                raise ProtocolError(f"{type(message).__name__} came among offers of paths")
        stream.finish()

    async def _punched(self, stream: Stream) -> None:
        """Send probes because the peer says so, unless that has just been: probes cost others, too."""
        now = asyncio.get_running_loop().time()
        if now - self._followed_at < ROUND_S / 2:
            return
        self._followed_at = now
        self._peer.punch(self._addresses())
        if not self._leads:
            await stream.send(encode_message(Punch()))

    def _take(self, offer: PathOffer) -> None:
        self._offer = offer
        self._peer.accept_offer(offer.secret, [address.host for address in offer.own])
        self._heard.set()

    async def _tell(self, stream: Stream) -> None:
        told: PathOffer | None = None
        while True:
            changed = self._changed()
            offer = PathOffer(
                secret=self._peer.paths.secret,
                own=tuple(self._own())[:MAX_ADDRESSES],
                observed=tuple(self._observed())[:MAX_ADDRESSES],
            )
            if offer != told:
                told = offer
                await stream.send(encode_message(offer))
            await changed.wait()

    async def _decide(self, stream: Stream) -> None:
        """Begin a round at once, after what may help, and now and then."""
        now = asyncio.get_running_loop().time
        tried: tuple[object, ...] | None = None
        retry_at, rounds = 0.0, 0
        await self._heard.wait()
        while True:
            changed = self._changed()
            self._heard.clear()
            if self._peer.paths.has_direct:
                tried = None
            elif (facts := self._facts()) != tried or now() >= retry_at:
                rounds = rounds + 1 if facts == tried else 0
                tried = facts
                # Our router expects the peer's probes before these come, and the peer's has let them out
                # before ours come: no router meets a packet that it does not know.
                self._peer.open_to(self._addresses())
                await stream.send(encode_message(Punch()))
                await asyncio.sleep(ROUND_S)
                retry_at = now() + (LATER_RETRY_S if rounds else RETRY_S)
                continue
            await self._wait(changed, None if tried is None else retry_at)

    def _facts(self) -> tuple[object, ...]:
        """Return what a round depends on."""
        assert self._offer is not None
        return (self._offer.own, self._offer.observed, tuple(self._own()), tuple(self._observed()))

    async def _wait(self, changed: asyncio.Event, until: float | None) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (changed, self._heard)]
        left_s = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _addresses(self) -> list[SocketAddress]:
        """Return where the peer may be reached."""
        if self._offer is None:
            raise ProtocolError("probes were asked for before any offer")
        return self._reachable(tuple(dict.fromkeys((*self._offer.own, *self._offer.observed))))

    def _reachable(self, addresses: Sequence[Address]) -> list[SocketAddress]:
        """Return those of `addresses` that our socket can send to."""
        here_only = ipaddress.ip_address(self._endpoint.address.host).is_loopback
        found = []
        for address in addresses:
            try:
                ip = ipaddress.ip_address(address.host)
                if (
                    ip.is_multicast
                    or ip.is_unspecified
                    or ip.is_loopback is not here_only
                    or not address.port
                ):
                    continue
                found.append(self._endpoint.to_socket_address(address))
            except (BadInput, ValueError):
                continue
        return found
