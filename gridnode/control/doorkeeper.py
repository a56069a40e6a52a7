"""Checks keys and counts: who may come in, how often, and with how many answers at once."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.door_response import RETRY_AFTER_S
from gridnode.control.key_file import MAX_KEYS
from gridnode.control.keys import ApiKey, Scope
from gridnode.control.rate_limit import RateLimits
from gridnode.errors import KeyRefused, NoCapacity, RateLimited

logger = logging.getLogger("gridnode.control.guard")

# A person mistypes a few times, a page with a revoked key asks on and on. Nobody guesses 256 bits:
# this keeps the log readable and the loop free. That is also why a right key passes in any case;
# the neighbours behind one address do not shut each other out.
MAX_WRONG_KEYS_PER_MINUTE = 20
# A page that is open in a busy swarm asks for itself twice a second: five of them, or what a key may do.
MAX_VISITOR_REQUESTS_PER_MINUTE = 600
# Streams of events of one address: the open pages of a small office.
MAX_LISTENERS_PER_ADDRESS = 16
# Of all visitors: half of the connections of the door, so that they never keep others out.
MAX_LISTENERS = 128
# Of whom wrong keys and visits are counted; beyond it the oldest starts anew.
MAX_COUNTED_ADDRESSES = 4096


_BEYOND = (
    "who needs more shows a key; if a proxy has this address, its node wants to be started with --api-proxy"
)


class WrongScope(KeyRefused):
    """Raised when the key is right, but not for this."""


class Doorkeeper:
    """Decides on requests from elsewhere.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, policy: DoorPolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._wrong = RateLimits(max_buckets=MAX_COUNTED_ADDRESSES)
        self._visits = RateLimits(max_buckets=MAX_COUNTED_ADDRESSES)
        self._requests = RateLimits(max_buckets=MAX_KEYS)
        self._listeners: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()

    def admit(self, secret: str, needed: Scope, *, address: str) -> ApiKey | None:
        """Return the key of a request that may come in; None if it needs none.

        Raises:
            KeyRefused: it needs a key, or another one.
            WrongScope: the key is not good for `needed`.
            RateLimited: the key asked, or the address asked or tried, too often.
        """
        if not secret and needed in self._policy.public_scopes:
            self._count_visit(address)
            return None
        key = self.check(secret, address=address)
        bucket = self._requests.bucket(key.id, key.requests_per_minute, now=self._clock())
        if not bucket.take(now=self._clock()):
            raise RateLimited(
                f"key {key.id} ({key.name}) may make {key.requests_per_minute} requests per minute; "
                f"the next one in {bucket.wait_s():.1f} s",
                limit=key.requests_per_minute,
                retry_after_s=bucket.wait_s(),
            )
        if needed not in self._policy.public_scopes and not key.allows(needed):
            raise WrongScope(
                f"key {key.id} ({key.name}) is for {', '.join(key.scopes)}, and this needs {needed}; "
                f"'gridnode keys create NAME --scope {needed}' on the node's computer makes another one"
            )
        return key

    def check(self, secret: str, *, address: str) -> ApiKey:
        """Return the key that `secret` is.

        Raises:
            KeyRefused: there is none, or no such one.
            RateLimited: too many wrong ones came from `address`.
        """
        if not secret:
            raise KeyRefused(
                "this door wants a key: send 'Authorization: Bearer gn-...' or 'x-api-key: gn-...'; the "
                "commands of gridnode take it from GRIDNODE_API_KEY. 'gridnode keys create NAME' on the "
                "node's computer makes one; there, 127.0.0.1 needs none"
            )
        key = self._policy.keys.find(secret) if self._policy.keys else None
        if key:
            return key
        now = self._clock()
        bucket = self._wrong.bucket(_network(address), MAX_WRONG_KEYS_PER_MINUTE, now=now)
        if not bucket.take(now=now):
            raise RateLimited(
                f"{address} tries too many wrong keys, {MAX_WRONG_KEYS_PER_MINUTE} per minute are looked at; "
                f"try the right one, or again in {bucket.wait_s():.1f} s",
                limit=MAX_WRONG_KEYS_PER_MINUTE,
                retry_after_s=bucket.wait_s(),
            )
        logger.warning("a wrong key from %s", address)
        raise KeyRefused(
            "the key is unknown or was revoked; 'gridnode keys list' on the node's computer shows the keys"
        )

    def _count_visit(self, address: str) -> None:
        now = self._clock()
        bucket = self._visits.bucket(_network(address), MAX_VISITOR_REQUESTS_PER_MINUTE, now=now)
        if not bucket.take(now=now):
            raise RateLimited(
                f"visitors from {address} may make {MAX_VISITOR_REQUESTS_PER_MINUTE} requests per minute "
                f"together; the next one in {bucket.wait_s():.1f} s; {_BEYOND}",
                limit=MAX_VISITOR_REQUESTS_PER_MINUTE,
                retry_after_s=bucket.wait_s(),
            )

    @contextlib.contextmanager
    def listening(self, address: str) -> Iterator[None]:
        """Count one stream of a visitor without a key inside the block.

        Raises:
            RateLimited: the address has as many as it may have.
            NoCapacity: all visitors together have.
        """
        network = _network(address)
        if self._listeners[network] >= MAX_LISTENERS_PER_ADDRESS:
            raise RateLimited(
                f"visitors from {address} may listen to {MAX_LISTENERS_PER_ADDRESS} streams at once, and do; "
                f"close a page; {_BEYOND}",
                limit=MAX_LISTENERS_PER_ADDRESS,
                retry_after_s=RETRY_AFTER_S,
            )
        if self._listeners.total() >= MAX_LISTENERS:
            raise NoCapacity(
                f"{MAX_LISTENERS} visitors listen, which is all that this node serves; try again later"
            )
        self._listeners[network] += 1
        try:
            yield
        finally:
            self._listeners[network] -= 1
            self._listeners += Counter()  # forgets those without any

    @contextlib.contextmanager
    def answering(self, key: ApiKey | None) -> Iterator[None]:
        """Count one answer for `key` inside the block.

        Raises:
            RateLimited: so many are being written for it already.
        """
        if key is None:
            yield
            return
        if self._answers[key.id] >= key.max_answers:
            raise RateLimited(
                f"key {key.id} ({key.name}) may have {key.max_answers} answers at once, and has; "
                "try again when one has ended",
                limit=key.max_answers,
                retry_after_s=RETRY_AFTER_S,
            )
        self._answers[key.id] += 1
        try:
            yield
        finally:
            self._answers[key.id] -= 1
            self._answers += Counter()  # forgets those without any


def _network(address: str) -> str:
    """Return what stands for one household: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network(f"{address}/64", strict=False))
