"""Nodes of one LAN find each other by multicast DNS (RFC 6762) and its service discovery (RFC 6763).

Everybody on the LAN hears what is announced, so it says little: a version, the first characters of the
node's id, the fingerprint of its swarm, its addresses and port. Everybody can forge it too: it only says
where to dial, and the handshake of the connection proves who answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gridnode.core.addresses import Address

logger = logging.getLogger("gridnode.net.discovery")

SERVICE_TYPE = "_gridnode._udp.local."
_VERSION = "1"
# 80 bits of the node's id: two nodes never share them by chance.
ID_PREFIX_CHARACTERS = 16
# How long others believe an announcement that is not renewed (RFC 6762, 10: two minutes for host records).
TTL_S = 120
# Looks at records that are still valid cost nothing; those that are not are asked for again.
CHECK_INTERVAL_S = 20.0
# Records that new ones replace are valid for one more second (RFC 6762, 10.2).
SETTLE_S = 1.2
# A host answers within half a second; three questions of the library fit in.
RESOLVE_TIMEOUT_S = 3.0
# Announcements of other nodes followed at once, of all swarms. A stranger may make up any number.
MAX_SERVICES = 256
# Addresses used of one announcement: a laptop with cable, Wi-Fi and a VPN has three of each family.
MAX_SERVICE_ADDRESSES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LanPeer:
    """What a node says to everybody on its LAN. Of another node, nothing of it is proven."""

    id_prefix: str
    """First `ID_PREFIX_CHARACTERS` of the base32 form of the node's id."""

    fingerprint: str
    """See `gridnode.core.swarm_secret.opaque_id`."""

    addresses: tuple[Address, ...]
    """At least one, all with the same port."""


def to_service(peer: LanPeer, *, ttl_s: int = TTL_S) -> AsyncServiceInfo:
    """Return the announcement that says `peer`."""
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{peer.id_prefix}.{SERVICE_TYPE}",
        port=peer.addresses[0].port,
        properties={"v": _VERSION, "id": peer.id_prefix, "swarm": peer.fingerprint},
        # Not the name of the computer, which often says whose it is.
        server=f"gridnode-{peer.id_prefix}.local.",
        parsed_addresses=[address.host for address in peer.addresses],
        host_ttl=ttl_s,
        other_ttl=ttl_s,
    )


def from_service(info: AsyncServiceInfo) -> LanPeer | None:
    """Return what an announcement says, or None if it is not one of ours or leads nowhere."""
    said = info.decoded_properties
    id_prefix, fingerprint = said.get("id") or "", said.get("swarm") or ""
    if said.get("v") != _VERSION or len(id_prefix) != ID_PREFIX_CHARACTERS or not info.port:
        return None
    hosts = filter(_is_dialable, info.parsed_addresses(IPVersion.All))
    addresses = tuple(Address(host, info.port) for host in hosts)[:MAX_SERVICE_ADDRESSES]
    return LanPeer(id_prefix=id_prefix, fingerprint=fingerprint, addresses=addresses) if addresses else None


def _is_dialable(host: str) -> bool:
    ip = ipaddress.ip_address(host)
    return not (ip.is_multicast or ip.is_unspecified or ip.is_link_local or ip.is_reserved)


class LanDiscovery:
    """Announces one node on the LAN, and follows the announcements of the others of its swarm.

    Args:
        me: What to announce.
        also: Fingerprints to follow beside that of `me`: of a swarm whose key is being replaced.
        on_found: Takes the name of an announcement and what it says, at first and after every change.
        on_lost: Takes the name of an announcement that was withdrawn, or not renewed in time.
        ttl_s: How long others believe the announcement if this node vanishes.
    """

    def __init__(
        self,
        me: LanPeer,
        *,
        also: Collection[str] = (),
        on_found: Callable[[str, LanPeer], None],
        on_lost: Callable[[str], None],
        ttl_s: int = TTL_S,
        check_interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self._followed_swarms = {me.fingerprint, *also}
        self._service = to_service(me, ttl_s=ttl_s)
        self._on_found = on_found
        self._on_lost = on_lost
        self._check_interval_s = check_interval_s
        self._followed: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    async def run(self, interfaces: Sequence[str]) -> None:
        """Announce and listen on the interfaces with these addresses until cancelled; then say goodbye.

        Whatever is still found by then is lost.

        Raises:
            OSError: multicast DNS does not work on these interfaces.
        """
        zeroconf = AsyncZeroconf(interfaces=list(interfaces))
        try:
            async with asyncio.TaskGroup() as group:

                def heard(name: str, state_change: ServiceStateChange, **_: object) -> None:
                    self._hear(zeroconf, group, name, state_change)

                browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE_TYPE, handlers=[heard])
                try:
                    # Nobody else has this name: it is made of our key. So there is no need to ask first.
                    repeats = await zeroconf.async_register_service(
                        self._service, cooperating_responders=True
                    )
                    await repeats
                    await asyncio.get_running_loop().create_future()  # until cancelled
                finally:
                    await browser.async_cancel()
        finally:
            await zeroconf.async_close()

    def _hear(
        self, zeroconf: AsyncZeroconf, group: asyncio.TaskGroup, name: str, state_change: ServiceStateChange
    ) -> None:
        """Follow an announcement from its first word to its last."""
        followed = self._followed.get(name)
        if name == self._service.name:
            return
        if state_change is ServiceStateChange.Removed:
            if followed:
                del self._followed[name]  # a new announcement of this name may come before its task has ended
                followed[0].cancel()
        elif followed:
            followed[1].set()
        elif len(self._followed) < MAX_SERVICES:
            changed = asyncio.Event()
            task = group.create_task(self._follow(zeroconf, name, changed), name="announcement")
            self._followed[name] = (task, changed)
        else:
            logger.debug("more than %d nodes announce themselves; %s is ignored", MAX_SERVICES, name)

    async def _follow(self, zeroconf: AsyncZeroconf, name: str, changed: asyncio.Event) -> None:
        known: LanPeer | None = None
        try:
            while True:
                changed.clear()
                found = await self._resolve(zeroconf, name)
                is_settled = found == known
                if not is_settled:
                    known = self._report(name, found)
                try:
                    async with asyncio.timeout(self._check_interval_s if is_settled else SETTLE_S):
                        await changed.wait()
                except TimeoutError:
                    pass
        except (ZeroconfError, ValueError) as exc:
            logger.debug("announcement %r makes no sense: %s", name, exc)
        finally:
            if name in self._followed and self._followed[name][1] is changed:
                del self._followed[name]
            if known:
                self._on_lost(name)

    def _report(self, name: str, found: LanPeer | None) -> LanPeer | None:
        if found:
            self._on_found(name, found)
        else:
            self._on_lost(name)
        return found

    async def _resolve(self, zeroconf: AsyncZeroconf, name: str) -> LanPeer | None:
        """Return what `name` says now, from memory while its records are valid; None if that is no use."""
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if not await info.async_request(zeroconf.zeroconf, RESOLVE_TIMEOUT_S * 1000):
            return None
        found = from_service(info)
        is_ours = found is not None and found.fingerprint in self._followed_swarms
        return found if is_ours else None
