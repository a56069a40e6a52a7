"""The budget of the KV cache: bytes leased to sessions, refused with numbers when they run out."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.core.spans import Span
from gridnode.errors import BadInput, CacheFull


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLease:
    """The right of one session to a number of cache tokens in some blocks, until it is released."""

    lease: int
    span: Span
    batch: int
    max_tokens: int
    """Positions per row."""

    num_bytes: int


class KVCachePool:
    """Keeps the account of one executor's KV cache. It holds no tensors.

    Args:
        span: Blocks of the executor.
        bytes_per_token: Bytes of one token of one row in one block.
        total_tokens: Tokens that fit when they pass through every block of the span.
    """

    def __init__(self, span: Span, *, bytes_per_token: int, total_tokens: int) -> None:
        self._span = span
        self._bytes_per_token = bytes_per_token
        self.total_bytes = total_tokens * bytes_per_token * len(span)
        self.leased_bytes = 0
        self._leases: dict[int, CacheLease] = {}

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody holds."""
        return self.total_bytes - self.leased_bytes

    @property
    def free_tokens(self) -> int:
        """Tokens through the whole span that nobody holds."""
        return self.free_bytes // (self._bytes_per_token * len(self._span))

    @property
    def num_leases(self) -> int:
        """Leases that are held now."""
        return len(self._leases)

    def fits(self, span: Span, *, batch: int, max_tokens: int) -> bool:
        """Return whether such a lease could be opened now."""
        return batch * max_tokens * self._bytes_per_token * len(span) <= self.free_bytes

    def open(self, lease: int, span: Span, *, batch: int, max_tokens: int) -> CacheLease:
        """Lease `batch * max_tokens` tokens in the blocks of `span`.

        Raises:
            CacheFull: they do not fit; it says how many would.
            BadInput: the number is taken, or the span is not a part of the executor's.
        """
        if lease in self._leases:
            raise BadInput(f"lease {lease} is open already")
        if span not in self._span or batch < 1 or max_tokens < 1:
            raise BadInput(
                f"cannot lease {batch} x {max_tokens} tokens in blocks {span}; blocks {self._span} are loaded"
            )
        per_token = self._bytes_per_token * len(span)
        num_bytes = batch * max_tokens * per_token
        if not self.fits(span, batch=batch, max_tokens=max_tokens):
            raise CacheFull(batch * max_tokens, self.free_bytes // per_token)
        granted = CacheLease(lease=lease, span=span, batch=batch, max_tokens=max_tokens, num_bytes=num_bytes)
        self._leases[lease] = granted
        self.leased_bytes += num_bytes
        return granted

    def release(self, lease: int) -> None:
        """Give a lease back. Unknown ones are free already."""
        granted = self._leases.pop(lease, None)
        if granted is not None:
            self.leased_bytes -= granted.num_bytes
