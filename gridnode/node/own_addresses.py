"""Where others reach this node: the addresses of this computer, and a port that its router maps to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from gridnode.control.status_schema import PortMappingStatus
from gridnode.core.addresses import Address, is_loopback
from gridnode.core.announcements import MAX_ADDRESSES
from gridnode.net.gateways import Gateway, NoMapping, default_gateway
from gridnode.net.interfaces import reachable_addresses
from gridnode.net.port_mapping import PortMapping, map_port, unmap

logger = logging.getLogger("gridnode.node.own_addresses")

# A router is asked again when half of its lease is over (RFC 6886, 3.3), but never all the time.
MIN_RENEWAL_S = 30.0
# After a router has refused: somebody may switch it on there.
RETRY_S = 600.0
# After one has not renewed what it gave: it may be starting again.
LAPSE_RETRY_S = 60.0
# Where there is no router: routes come a moment after the addresses that go with them.
LOOK_INTERVAL_S = 30.0
# Nobody waits longer for the end of a node because of its router.
UNMAP_TIMEOUT_S = 3.0

FindGateway = Callable[[str], Gateway | None]
MapPort = Callable[..., Awaitable[PortMapping]]


class OwnAddresses:
    """Keeps a port of the router mapped while it runs, if that is wanted. Run it once, with `run`.

    Args:
        maps_port: Whether to ask the router at all.
        on_change: Called when there is another address outside, or none any more.
        find: See `default_gateway`.
        ask: See `map_port`.
        end: See `unmap`.
    """

    def __init__(
        self,
        maps_port: bool,
        *,
        on_change: Callable[[], None],
        find: FindGateway = default_gateway,
        ask: MapPort = map_port,
        end: Callable[[PortMapping], Awaitable[None]] = unmap,
    ) -> None:
        self._maps_port = maps_port
        self._on_change = on_change
        self._find = find
        self._ask = ask
        self._end = end
        self._bound = Address("127.0.0.1", 0)
        self._local: tuple[Address, ...] = ()
        self._mapping: PortMapping | None = None
        self._ends_at = 0.0
        self._gateway: Gateway | None = None
        self._problem: NoMapping | None = None
        self._moved = asyncio.Event()

    def begin(self, bound: Address) -> None:
        """Take the address that the node's socket is bound to, which may be a wildcard."""
        self._bound = bound

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where peers may dial this node, the nearest first."""
        with contextlib.suppress(OSError):  # as without a descriptor to spare: they are what they were
            self._local = reachable_addresses(self._bound)
        own = self._local
        return (*own[: MAX_ADDRESSES - 1], self._mapping.external) if self._mapping else own

    def suspect(self) -> None:
        """Take the hint that this computer has moved: another router may stand before it."""
        self._moved.set()

    def status(self) -> PortMappingStatus | None:
        """Return how it went with the router, in the words of the door; None if none is asked."""
        if self._gateway is None:
            return None
        mapping = self._mapping
        return PortMappingStatus(
            router=self._gateway.host,
            protocol=mapping.protocol.value if mapping else "",
            address=str(mapping.external) if mapping else "",
            problem=str(self._problem or ""),
            router_is_hidden=self._problem is not None and self._problem.is_router_hidden,
        )

    async def run(self) -> None:
        """Keep the port mapped until cancelled; then end the mapping."""
        if not self._maps_port or is_loopback(self._bound):
            return
        try:
            while True:
                self._moved.clear()
                wait_s = await self._renew()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._moved.wait()
                except TimeoutError:
                    pass  # the next lease
        finally:
            await self._give_back()

    async def _renew(self) -> float:
        """Ask the router, if there is one; return after how long to ask again."""
        try:
            self._gateway = gateway = await asyncio.to_thread(self._find, self._bound.host)
        except OSError as exc:
            # As without a descriptor to spare: the router is there, but cannot be seen now.
            logger.info("cannot look for the router of this network: %s", exc.strerror or exc)
            return LOOK_INTERVAL_S
        if gateway is None or not gateway.is_needed:
            self._gateway = None
            self._take(None)
            return LOOK_INTERVAL_S
        now = asyncio.get_running_loop().time
        is_held = self._mapping is not None and self._mapping.gateway == gateway
        wanted = self._mapping.external.port if self._mapping and is_held else self._bound.port
        try:
            mapping = await self._ask(gateway, self._bound.port, wanted=wanted)
        except NoMapping as exc:
            if str(exc) != str(self._problem):
                logger.info("no port is mapped for this node: %s", exc)
            self._problem = exc
            if is_held and now() < self._ends_at:
                return LAPSE_RETRY_S
            self._take(None)
            return RETRY_S
        self._problem = None
        self._ends_at = now() + mapping.lease_s
        self._take(mapping)
        return max(MIN_RENEWAL_S, mapping.lease_s / 2)

    def _take(self, mapping: PortMapping | None) -> None:
        before = self._mapping and self._mapping.external
        self._mapping = mapping
        after = mapping and mapping.external
        if before == after:
            return
        if mapping:
            logger.info(
                "the router %s maps %s to this node, by %s", mapping.gateway.host, after, mapping.protocol
            )
        self._on_change()

    async def _give_back(self) -> None:
        if self._mapping is None:
            return
        try:
            async with asyncio.timeout(UNMAP_TIMEOUT_S):
                await self._end(self._mapping)
        except (NoMapping, TimeoutError) as exc:
            logger.info("the router keeps the mapped port until its lease ends: %s", exc)
