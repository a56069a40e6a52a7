"""Ways past a router that gives each destination another port, found by chance where users allow it.

One side has such a router (symmetric), the other an easy one, and probes to where relays see them have
failed. The first lets its router open many ports for the other, and says so; the other sends probes to ports
at random. To networks this looks like somebody who searches for open ports.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from gridnode.core.addresses import Address
from gridnode.net.guess_sockets import GUESS_S, GUESSED_PORTS, GUESSES_PER_S
from gridnode.net.paths import LOW_HOPS
from gridnode.net.udp import SocketAddress
from gridnode.net.virtual_peer import VirtualPeer
from gridnode.node.circumstances import is_metered

logger = logging.getLogger("gridnode.node.paths")

MAX_ROUNDS = 3
"""For one pair of addresses: one is nearly always enough, if guessing helps at all."""

PAUSE_S = 30.0
"""Between guesses for one peer, whatever it asks for; it asks again after 40 seconds."""

# Guesses that leave together: so many that 500 a second wake the node 20 times.
_BATCH = 25
# For the request to arrive, and the answer to the last guess.
_TRAVEL_S = 1.0


def changing_host(observed: Iterable[Address]) -> str | None:
    """Return where relays see a node at several ports: its router gives each destination another one."""
    ports: defaultdict[str, set[int]] = defaultdict(set)
    for address in observed:
        ports[address.host].add(address.port)
    return next((host for host, seen in ports.items() if len(seen) > 1), None)


def guessing_address(own: Sequence[Address], peers: Sequence[Address]) -> Address | None:
    """Return where the peer's guesses would come from, or None if it has nothing to guess.

    Args:
        own: Where relays see this node.
        peers: Where they see the peer.
    """
    host = changing_host(own)
    if host is None or changing_host(peers) is not None:
        return None
    version = ipaddress.ip_address(host).version
    return next((each for each in peers if ipaddress.ip_address(each.host).version == version), None)


class PortGuessing:
    """Takes part in guesses, for one peer at a time.

    Args:
        is_allowed: Whether the user of this node allows it.
    """

    def __init__(self, *, is_allowed: bool) -> None:
        self.is_allowed = is_allowed
        self._turn = asyncio.Lock()

    async def be_guessed(
        self, peer: VirtualPeer, source: SocketAddress, *, is_first: bool, ask: Callable[[], Awaitable[None]]
    ) -> None:
        """Let the peer, which sends from `source`, guess ports of our router; `ask` it to once they are open.

        Raises:
            GridError: the peer cannot be asked.
        """
        async with self._turn:
            if peer.paths.has_direct or await asyncio.to_thread(is_metered):
                return
            # The first time no packet reaches the peer's router, which might take it for an attack. But the
            # router of a carrier may be farther away from us than these packets come.
            found = peer.expect_guesses(source, hops=LOW_HOPS if is_first else None)
            try:
                await ask()
                async with asyncio.timeout(GUESS_S + _TRAVEL_S):
                    await found.wait()
            except TimeoutError:
                logger.info("%s did not guess an open port of our router", source[0])
            finally:
                peer.end_guesses()

    async def guess(self, peer: VirtualPeer, host: SocketAddress) -> None:
        """Send probes to random ports of `host` until the peer answers, for `GUESS_S` at most."""
        if self._turn.locked():
            return  # for another peer; this one will ask again
        async with self._turn:
            if await asyncio.to_thread(is_metered):
                return
            now = asyncio.get_running_loop().time
            began_at = now()
            ports = random.sample(GUESSED_PORTS, round(GUESSES_PER_S * GUESS_S))
            num_sent = 0
            while num_sent < len(ports) and now() < began_at + GUESS_S and not peer.paths.has_direct:
                peer.guess(host, ports[num_sent : num_sent + _BATCH])
                num_sent += _BATCH
                await asyncio.sleep(_BATCH / GUESSES_PER_S)
            outcome = "found a port" if peer.paths.has_direct else "found none"
            logger.info("%s of %s with %d guesses in %.2f s", outcome, host[0], num_sent, now() - began_at)
