"""The datagrams of one connection grow to what the way that they take allows, and shrink in time."""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable

from gridnode.net.aioquic_private import PeerQuic
from gridnode.net.clock import now_s
from gridnode.net.datagram_search import DatagramSearch
from gridnode.net.udp import Datagram

logger = logging.getLogger("gridnode.net.quic")

# Timeouts in a row after which large datagrams are believed to vanish: nothing small may be under way then.
_MAX_TIMEOUTS = 2


class DatagramSizing:
    """Decides about the size of datagrams.

    Args:
        smallest_bytes: Passes everywhere, relays included.
        largest_bytes: Is not exceeded, whatever would pass.
    """

    def __init__(self, quic: PeerQuic, *, smallest_bytes: int, largest_bytes: int) -> None:
        self._quic = quic
        self._smallest_bytes = smallest_bytes
        self._largest_bytes = largest_bytes
        self._way: Hashable | None = None
        self._begin()

    def follow(self, way: Hashable | None) -> None:
        """Take the way of the next datagrams; None if a relay is on it, or if it may have ended."""
        if way != self._way:
            self._way = way
            self._begin()

    def probes(self, sent: list[Datagram], *, now: float) -> list[Datagram]:
        """Return what to send beside `sent` to find out whether larger datagrams pass."""
        if self._way is None or not self._quic.may_probe_sizes:
            return []
        is_size_used = bool(sent) and len(sent[0][0]) > self._smallest_bytes
        size_bytes = self._search.next_probe(now=now, is_size_used=is_size_used)
        if size_bytes is None:
            return []
        on_result = functools.partial(self._probed, self._search, size_bytes)
        return self._quic.make_size_probe(size_bytes, on_result=on_result, now=now)

    def limit(self, size_bytes: int) -> None:
        """Take the hint of a router that datagrams of more than `size_bytes` do not pass."""
        self._search.limit(size_bytes, now=now_s())
        self._apply()

    def look_for_timeouts(self) -> None:
        """Give large datagrams up if nothing is answered any more: some routers drop them without a word."""
        if self._quic.num_timeouts >= _MAX_TIMEOUTS and self._search.size_bytes > self._smallest_bytes:
            logger.debug("large datagrams may vanish on the way to %s", self._way)
            self._begin()

    def _probed(self, search: DatagramSearch, size_bytes: int, has_arrived: bool) -> None:
        if has_arrived:
            search.answered(size_bytes, now=now_s())
        else:
            search.lost(size_bytes, now=now_s())
        self._apply()

    def _begin(self) -> None:
        self._search = DatagramSearch(smallest_bytes=self._smallest_bytes, largest_bytes=self._largest_bytes)
        self._apply()

    def _apply(self) -> None:
        """Let the next datagrams have the size that was found."""
        before_bytes, size_bytes = self._quic.max_datagram_bytes, self._search.size_bytes
        if size_bytes == before_bytes:
            return
        logger.debug("datagrams to %s may have %d bytes", self._way, size_bytes)
        self._quic.max_datagram_bytes = size_bytes
