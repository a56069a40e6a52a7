"""Two peers tell each other where they may be reached without a relay, and try it at the same time."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_ADDRESSES
from gridnode.errors import BadInput, ProtocolError
from gridnode.net.endpoint import Endpoint
from gridnode.net.guess_sockets import GUESSED_PORTS
from gridnode.net.paths import ROUND_S
from gridnode.net.transport import Stream
from gridnode.net.udp import SocketAddress
from gridnode.net.virtual_peer import VirtualPeer
from gridnode.node.port_guessing import (
    MAX_ROUNDS,
    PAUSE_S,
    PortGuessing,
    changing_host,
    guessing_address,
)
from gridnode.wire.codec import encode_message
from gridnode.wire.relay_messages import Guess, PathOffer, Punch, decode_relay_message

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
        guessing: The guesses of this node, one at a time for all peers.
    """

    def __init__(
        self,
        peer: VirtualPeer,
        endpoint: Endpoint,
        *,
        own: Callable[[], Sequence[Address]],
        observed: Callable[[], Sequence[Address]],
        changed: Callable[[], asyncio.Event],
        guessing: PortGuessing,
    ) -> None:
        self._peer = peer
        self._endpoint = endpoint
        self._own = own
        self._observed = observed
        self._changed = changed
        self._guessing = guessing
        self._offer: PathOffer | None = None
        self._heard = asyncio.Event()
        self._leads = False
        self._guessed_for: tuple[object, ...] = ()
        self._guess_rounds = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._round: asyncio.Task[None] | None = None

    async def lead(self, stream: Stream) -> None:
        """Exchange offers and decide when to try, while the stream lasts: the part of who dialled.

        Raises:
            GridError: the stream broke.
        """
        self._leads = True
        await self._talk(stream)

    async def follow(self, stream: Stream, offer: PathOffer) -> None:
        """Exchange offers, and try when the other side says so, while the stream lasts.

        Raises:
            GridError: the stream broke.
        """
        self._take(offer)
        await self._talk(stream)

    async def _talk(self, stream: Stream) -> None:
        async with asyncio.TaskGroup() as self._group:
            self._start(self._tell(stream), "offers")
            if self._leads:
                self._start(self._decide(stream), "punch")
            try:
                await self._listen(stream)
            finally:
                for task in self._tasks:
                    task.cancel()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do `work` while the stream lasts."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _listen(self, stream: Stream) -> None:
        while (frame := await stream.receive()) is not None:
            message = decode_relay_message(frame)
            if isinstance(message, PathOffer):
                self._take(message)
            elif isinstance(message, Punch):
                await self._punched(stream)
            elif isinstance(message, Guess):
                self._asked_to_guess()
            else:
                raise ProtocolError(f"{type(message).__name__} came among offers of paths")
        stream.finish()

    async def _punched(self, stream: Stream) -> None:
        """Send probes because the peer says so, unless that has just been: probes cost others, too."""
        now = asyncio.get_running_loop().time()
        if now - self._peer.followed_at >= ROUND_S / 2:
            self._peer.followed_at = now
            self._peer.punch(self._addresses())
        if not self._leads:
            # Even if the probes were sent for another connection to this peer: that one may be about to end.
            await stream.send(encode_message(Punch()))
            if self._round is None or self._round.done():
                self._round = self._start(self._end_round(stream), "round")

    async def _end_round(self, stream: Stream) -> None:
        """Wait until a round of probes is over; then let the peer guess, if that may help."""
        await asyncio.sleep(ROUND_S)
        now = asyncio.get_running_loop().time()
        if (facts := self._facts()) != self._guessed_for:
            self._guessed_for, self._guess_rounds = facts, 0
        source = self._guessing_source()
        is_time = now >= self._peer.guessed_at + PAUSE_S and self._guess_rounds < MAX_ROUNDS
        if self._peer.paths.has_direct or source is None or not is_time:
            return
        self._peer.guessed_at = now
        self._guess_rounds += 1
        await self._guessing.be_guessed(
            self._peer,
            source,
            is_first=self._guess_rounds == 1,
            ask=lambda: stream.send(encode_message(Guess())),
        )

    def _guessing_source(self) -> SocketAddress | None:
        """Return where guesses of the peer would come from; None if it may not or need not guess."""
        assert self._offer is not None
        if not (self._guessing.is_allowed and self._offer.guesses):
            return None
        source = guessing_address(self._observed(), self._offer.observed)
        return next(iter(self._reachable([source])), None) if source else None

    def _asked_to_guess(self) -> None:
        """Guess because the peer says so, unless that has just been, or cannot help."""
        now = asyncio.get_running_loop().time()
        if self._offer is None or not self._guessing.is_allowed or now < self._peer.guessed_at + PAUSE_S:
            return
        host = changing_host(self._offer.observed)
        if host is None or changing_host(self._observed()) is not None:
            return
        for destination in self._reachable([Address(host, GUESSED_PORTS.start)]):
            self._peer.guessed_at = now
            self._start(self._guessing.guess(self._peer, destination), "guess")

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
                guesses=self._guessing.is_allowed,
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
                await self._end_round(stream)
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
