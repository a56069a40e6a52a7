"""Links to the peers that were found on the LAN."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable

from gridnode.core.addresses import Address
from gridnode.core.ids import short, show_peer
from gridnode.errors import GridError
from gridnode.net.discovery import ID_PREFIX_CHARACTERS, LanPeer
from gridnode.net.handshake_limit import TokenBucket
from gridnode.net.transport import Connection
from gridnode.node.links import Links
from gridnode.node.membership import MAX_BACKOFF_S, MAX_MESH_LINKS, MIN_BACKOFF_S

logger = logging.getLogger("gridnode.node.lan")

# Announcements are cheap to forge; dialling costs us and whoever is named in them.
MAX_DIALS_PER_S = 8.0
# What the peer with the larger id leaves to the other one, so that two nodes do not dial each other at once.
PATIENCE_S = 0.5


class LanLinks:
    """Stays connected to found peers, for as long as they are not lost.

    Unlike the swarm's view of a peer, which ends when it cannot be reached, this goes on trying.

    Args:
        is_near: Tells whether an address is on a network of this machine.
    """

    def __init__(self, links: Links, *, is_near: Callable[[Address], bool]) -> None:
        self._links = links
        self._is_near = is_near
        self._me = show_peer(links.peer_id)[:ID_PREFIX_CHARACTERS]
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._dials = TokenBucket(MAX_DIALS_PER_S, now=asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Hold the links until cancelled; the connections themselves remain."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.get_running_loop().create_future()  # until cancelled

    def found(self, name: str, peer: LanPeer) -> None:
        """Stay connected to the peer that announces itself as `name`, from now on at these addresses."""
        self.lost(name)
        addresses = [address for address in peer.addresses if self._may_dial(address)]
        if addresses and self._group is not None:
            logger.info("found %s on the LAN at %s", peer.id_prefix[:8], addresses[0])
            if (link := self._linked(peer.id_prefix)) and link.address not in addresses:
                link.suspect()  # it has moved; or somebody says so, which harms nobody who answers
            keeping = self._keep(peer.id_prefix, sorted(addresses, key=self._is_near, reverse=True))
            self._tasks[name] = self._group.create_task(keeping, name=f"lan {peer.id_prefix[:8]}")

    def lost(self, name: str) -> None:
        """Leave the link to whoever announced itself as `name` to its fate."""
        if task := self._tasks.pop(name, None):
            task.cancel()

    def _may_dial(self, address: Address) -> bool:
        """Nobody on the LAN may make us dial computers on the Internet."""
        return ipaddress.ip_address(address.host).is_private or self._is_near(address)

    async def _keep(self, id_prefix: str, addresses: list[Address]) -> None:
        """Stay connected, with growing waits after links that did not come about or did not last."""
        if self._me > id_prefix:
            await asyncio.sleep(PATIENCE_S)
        now = asyncio.get_running_loop().time
        backoff_s = MIN_BACKOFF_S
        while True:
            began_at = now()
            connection = self._linked(id_prefix) or await self._dial(id_prefix, addresses)
            if connection is not None:
                await connection.wait_closed()
            if now() - began_at > MAX_BACKOFF_S:
                backoff_s = MIN_BACKOFF_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    def _linked(self, id_prefix: str) -> Connection | None:
        links = self._links.connections().items()
        return next((link for peer_id, link in links if show_peer(peer_id).startswith(id_prefix)), None)

    async def _dial(self, id_prefix: str, addresses: list[Address]) -> Connection | None:
        """Return a connection to the peer, or None if there is no way or no room."""
        for address in addresses:
            # A large swarm dials on demand; whom we do not link to, we hear of from others.
            if len(self._links.connections()) >= MAX_MESH_LINKS:
                return None
            while not self._dials.take(now=asyncio.get_running_loop().time()):  # noqa: ASYNC110 - for time itself
                await asyncio.sleep(1 / MAX_DIALS_PER_S)
            try:
                connection = await self._links.join(address)
            except GridError as exc:
                logger.debug("dial %s: %s", address, exc)
                continue
            if show_peer(connection.peer_id).startswith(id_prefix):
                return connection
            logger.debug("%s answers at %s instead of %s", short(connection.peer_id), address, id_prefix)
            await connection.aclose()
        return None
