"""Life on the LAN: the node follows its network interfaces, announces itself, and links to whom it finds."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence

from zeroconf import Error as ZeroconfError

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, show_peer
from gridnode.net.discovery import ID_PREFIX_CHARACTERS, MAX_SERVICE_ADDRESSES, LanDiscovery, LanPeer
from gridnode.net.interfaces import LocalAddress, local_addresses
from gridnode.node.lan_links import LanLinks
from gridnode.node.links import Links

logger = logging.getLogger("gridnode.node.lan")

# Looking at the interfaces costs a tenth of a millisecond.
LOOK_INTERVAL_S = 2.0


class Lan:
    """The networks of a node, and the peers on them.

    Args:
        links: Where connections to peers are made.
        fingerprints: Returns what the swarm is called on the LAN, newest first: several while its key is
            being replaced.
        mdns: Whether to announce this node and to look for others.
        on_change: Called when the addresses of this machine have changed.
    """

    def __init__(
        self,
        links: Links,
        *,
        fingerprints: Callable[[], Sequence[str]],
        mdns: bool,
        on_change: Callable[[], None],
    ) -> None:
        self._links = links
        self._fingerprints = fingerprints
        self._mdns = mdns
        self._on_change = on_change
        self._bound = Address("127.0.0.1", 0)
        self._locals: tuple[LocalAddress, ...] = ()
        self._usable: tuple[LocalAddress, ...] = ()
        """The last addresses that were not none."""

    def begin(self, bound: Address) -> None:
        """Look at the interfaces that a socket bound to `bound` uses, for the first time."""
        self._bound = bound
        self._locals = self._usable = local_addresses(bound.host)

    @property
    def is_searching(self) -> bool:
        """Whether peers may be found on the LAN."""
        return self._mdns and any(local.has_multicast for local in self._locals)

    def is_near(self, address: Address) -> bool:
        """Return whether `address` is on a network of this machine, with no router between."""
        return any(local.is_on_link(address.host) for local in self._locals)

    async def run(self) -> None:
        """Follow the interfaces until cancelled; announce, and link to peers, on those that there are."""
        while True:
            async with asyncio.TaskGroup() as group:
                searching = group.create_task(self._search(), name="mdns")
                await self._wait_change()
                searching.cancel()
            self._on_change()

    async def _wait_change(self) -> None:
        called = self._fingerprints()
        # No event that every system has tells of it.
        while (now := self._look()) == self._locals:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if self._fingerprints() != called:
                return
        logger.info("addresses are now %s", ", ".join(local.host for local in now) or "none")
        self._locals = now
        if not now:
            return  # perhaps for a moment only: links survive that
        if set(self._usable) - set(now):
            for connection in self._links.connections().values():
                connection.suspect()  # peers that dialled an address which is gone do not hear us any more
        self._usable = now

    def _look(self) -> tuple[LocalAddress, ...]:
        try:
            return local_addresses(self._bound.host)
        except OSError as exc:
            # As without a descriptor to spare, which says nothing about the network.
            logger.debug("cannot look at the network interfaces: %s", exc)
            return self._locals

    async def _search(self) -> None:
        """Announce this node and link to those found until cancelled, or do nothing if that cannot work."""
        if not self.is_searching:
            return
        hosts = [local.host for local in self._locals if local.has_multicast]
        fingerprint, *older = self._fingerprints()
        me = _lan_peer(self._links.peer_id, fingerprint, self._bound, hosts)
        links = LanLinks(self._links, is_near=self.is_near)
        discovery = LanDiscovery(me, also=older, on_found=links.found, on_lost=links.lost)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(links.run(), name="lan-links")
                group.create_task(discovery.run(hosts), name="discovery")
        except* (OSError, ZeroconfError) as errors:
            logger.warning(
                "cannot look for other nodes on this network (%s); name one with --join", errors.exceptions[0]
            )


def _lan_peer(peer_id: PeerId, fingerprint: str, bound: Address, hosts: list[str]) -> LanPeer:
    # IPv4 first: on a LAN it is what most firewalls let pass.
    ordered = sorted(hosts, key=lambda host: ipaddress.ip_address(host).version)
    return LanPeer(
        id_prefix=show_peer(peer_id)[:ID_PREFIX_CHARACTERS],
        fingerprint=fingerprint,
        addresses=tuple(Address(host, bound.port) for host in ordered[:MAX_SERVICE_ADDRESSES]),
    )
