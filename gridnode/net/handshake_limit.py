"""How often strangers may begin a handshake. Pure: the time is an argument."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from gridnode.core.relays import is_virtual

# Seconds of the allowed rate that may come at once.
BURST_S = 2.0
# Addresses remembered; the one that was quiet for longest is forgotten first. An attacker with more
# addresses than that still meets the limit over all of them.
MAX_ADDRESSES = 4096


class TokenBucket:
    """Allows `rate_per_s` events, and bursts of `BURST_S` seconds' worth."""

    __slots__ = ("_capacity", "_level", "_rate_per_s", "_updated_at")

    def __init__(self, rate_per_s: float, *, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = max(1.0, rate_per_s * BURST_S)
        self._level = self._capacity
        self._updated_at = now

    def take(self, *, now: float) -> bool:
        """Return whether one more event is allowed, and count it if so."""
        self._level = min(self._capacity, self._level + (now - self._updated_at) * self._rate_per_s)
        self._updated_at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


def network_of(host: str) -> str:
    """Return what one household or server has: an IPv4 address, or a /64 network of IPv6."""
    if is_virtual(host):
        return host  # one peer behind a relay
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip)


class HandshakeLimit:
    """Limits handshakes per address, and over all addresses."""

    def __init__(self, *, per_s: float, per_address_per_s: float, now: float) -> None:
        self._all = TokenBucket(per_s, now=now)
        self._per_address_per_s = per_address_per_s
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._buckets)

    def allows(self, host: str, *, now: float) -> bool:
        """Return whether `host` may begin a handshake now, and count it if so."""
        network = network_of(host)
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(self._per_address_per_s, now=now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(network)
        # The own bucket first: an address over its limit must not use up what is for all.
        return bucket.take(now=now) and self._all.take(now=now)
