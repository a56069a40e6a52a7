"""How large datagrams may be on the way that they take. Pure: the time is an argument.

In the spirit of RFC 8899 (packetization layer path MTU discovery): a padded packet of the next size is
sent, and if it is answered, that size is used. What is in use is probed again while data flows, so a way that
stops letting large datagrams through is noticed without the help of its routers, some of which say nothing.
"""

from __future__ import annotations

SIZES_BYTES = (1350, 1452, 4000, 8900, 16_000)
"""Sizes to try: tunnels, Ethernet less the headers of IPv6 and UDP, FDDI, jumbo frames, loopback."""

MAX_TRIES = 3
"""Probes of one size that get lost before it is believed not to pass (RFC 8899, 5.1.2)."""

CONFIRM_INTERVAL_S = 1.0
"""Between probes of the size in use, while datagrams of that size are sent."""

SEARCH_AGAIN_S = 30.0
"""After which sizes that did not pass are tried again. RFC 8899 says 600 s, for packets dearer than ours."""


class DatagramSearch:
    """Finds the largest size of datagrams that passes on one way; another way needs another search.

    Args:
        smallest_bytes: Passes everywhere.
        largest_bytes: Is not exceeded, whatever would pass.
    """

    def __init__(self, *, smallest_bytes: int, largest_bytes: int) -> None:
        self._smallest_bytes = smallest_bytes
        self._largest_bytes = largest_bytes
        self.size_bytes = smallest_bytes
        """The largest datagram that is known to pass."""

        self._limit_bytes = largest_bytes  # larger ones were seen not to pass
        self._limit_until = 0.0
        self._probed_bytes: int | None = None  # a probe whose fate is not known yet
        self._lost_probes = 0
        self._confirm_at = 0.0

    def next_probe(self, *, now: float, is_size_used: bool) -> int | None:
        """Return the size of the probe to send now, or None if none is due. It counts as sent.

        Args:
            is_size_used: Whether datagrams of the present size are being sent.
        """
        if self._probed_bytes is not None:
            return None
        if now >= self._limit_until:
            self._limit_bytes = self._largest_bytes
        wanted = next((size for size in SIZES_BYTES if self.size_bytes < size <= self._limit_bytes), None)
        if wanted is None and is_size_used and now >= self._confirm_at:
            wanted = self.size_bytes if self.size_bytes > self._smallest_bytes else None
        self._probed_bytes = wanted
        return wanted

    def answered(self, size_bytes: int, *, now: float) -> None:
        """Take the news that a probe arrived."""
        if size_bytes != self._probed_bytes:
            return  # a router has said meanwhile that it will not
        self.size_bytes = max(self.size_bytes, size_bytes)
        self._probed_bytes = None
        self._lost_probes = 0
        self._confirm_at = now + CONFIRM_INTERVAL_S

    def lost(self, size_bytes: int, *, now: float) -> None:
        """Take the news that a probe got lost, perhaps because of its size."""
        if size_bytes != self._probed_bytes:
            return
        self._probed_bytes = None
        self._lost_probes += 1
        if self._lost_probes >= MAX_TRIES:
            self._lost_probes = 0
            self.limit(size_bytes - 1, now=now)

    def limit(self, size_bytes: int, *, now: float) -> None:
        """Take the news that nothing larger than `size_bytes` passes, from a router or from experience."""
        self._limit_bytes = max(self._smallest_bytes, min(size_bytes, self._limit_bytes))
        self._limit_until = now + SEARCH_AGAIN_S
        if self._probed_bytes is not None and self._probed_bytes > self._limit_bytes:
            self._probed_bytes = None
            self._lost_probes = 0
        if self.size_bytes > self._limit_bytes:
            # What passed before may not do so any more; the next probes find out.
            self.size_bytes = self._smallest_bytes
