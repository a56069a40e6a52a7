"""The key that a node makes when its door is opened to other computers for the first time."""

from __future__ import annotations

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.keys import Scope
from gridnode.core.addresses import Address, is_loopback

FIRST_KEY_NAME = "first"
# What its owner does with other computers; the node itself is changed from its own.
FIRST_KEY_SCOPES = (Scope.CHAT, Scope.MONITOR)


def make_first_key(policy: DoorPolicy, api: Address) -> str:
    """Return a new key if a door at `api` needs one and has none, and else nothing.

    Call it when the port is bound: a key for a door that does not open would be lost.

    Raises:
        BadInput: the keys cannot be read or written.
    """
    needs_none = is_loopback(api) and not policy.home_needs_key
    if needs_none or policy.keys is None or policy.keys.keys():
        return ""
    return policy.keys.create(FIRST_KEY_NAME, scopes=FIRST_KEY_SCOPES)[1]
