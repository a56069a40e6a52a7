"""What nodes and relays say to each other, and what two peers say about the ways between them.

A stream to a relay begins with `Register`, which is answered by `Registered` or `RelayRefused`. The
handshake of its connection has proven who registers. A stream about paths begins with `PathOffer`, both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from gridnode.core.addresses import Address, check_address
from gridnode.core.announcements import MAX_ADDRESSES
from gridnode.core.swarm_pass import MAX_SWARM_KEYS
from gridnode.wire.codec import MessageCodec, TypedMessage
from gridnode.wire.messages import Count, PeerIdField, ShortText
from gridnode.wire.relay_packets import SECRET_BYTES

MAX_MEMBERS = 32
"""Peers named at once: as many as a node links to, see `gridnode.node.membership.MAX_MESH_LINKS`."""

MAX_SWARM_TAG_CHARACTERS = 64
SwarmTag = Annotated[str, Meta(max_length=MAX_SWARM_TAG_CHARACTERS)]


class RelayMessageType(IntEnum):
    """Frame types of these messages."""

    REGISTER = 0x40
    REGISTERED = 0x41
    RELAY_REFUSED = 0x42
    FIND_MEMBERS = 0x43
    MEMBERS = 0x44
    OBSERVED = 0x45
    PATH_OFFER = 0x48
    PUNCH = 0x49
    GUESS = 0x4A


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(TypedMessage):
    """Asks to be reached through a relay while the stream lasts. Sent again, it changes what it said."""

    type: ClassVar[int] = RelayMessageType.REGISTER
    swarms: Annotated[tuple[SwarmTag, ...], Meta(max_length=MAX_SWARM_KEYS)] = ()
    """What the swarm is called before strangers: twice while its key is being replaced, and not at all if the
    node only visits somebody here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(TypedMessage):
    """The node is reached by its tag from now on."""

    type: ClassVar[int] = RelayMessageType.REGISTERED
    bytes_per_s: Count
    """What the node may send through the relay on average; more is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRefused(TypedMessage):
    """The relay has no room for the node, and closes the stream."""

    type: ClassVar[int] = RelayMessageType.RELAY_REFUSED
    text: ShortText


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed(TypedMessage):
    """Where the relay sees the node, at first and after every change."""

    type: ClassVar[int] = RelayMessageType.OBSERVED
    address: Address

    def __post_init__(self) -> None:
        check_address(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindMembers(TypedMessage):
    """Asks who else of the swarm is registered."""

    type: ClassVar[int] = RelayMessageType.FIND_MEMBERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Members(TypedMessage):
    """Some of the nodes of the same swarm."""

    type: ClassVar[int] = RelayMessageType.MEMBERS
    peers: Annotated[tuple[PeerIdField, ...], Meta(max_length=MAX_MEMBERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOffer(TypedMessage):
    """Where the sender may be reached without a relay, and how to prove probes to it."""

    type: ClassVar[int] = RelayMessageType.PATH_OFFER
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    """Probes to the sender are made with it."""

    own: Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]
    """Addresses of its interfaces."""

    observed: Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]
    """Where relays see it."""

    guesses: bool = False
    """Whether the sender's user lets it guess at ports, and be guessed at."""

    def __post_init__(self) -> None:
        for address in (*self.own, *self.observed):
            check_address(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Punch(TypedMessage):
    """Asks to send probes now. Who is asked answers with the same; then the other side sends some, too."""

    type: ClassVar[int] = RelayMessageType.PUNCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess(TypedMessage):
    """Asks to send probes to random ports of the sender's router: many are open for the receiver now."""

    type: ClassVar[int] = RelayMessageType.GUESS


RelayMessage = (
    Register | Registered | RelayRefused | Observed | FindMembers | Members | PathOffer | Punch | Guess
)

_CODEC: MessageCodec[RelayMessage] = MessageCodec(
    (Register, Registered, RelayRefused, Observed, FindMembers, Members, PathOffer, Punch, Guess)
)

decode_relay_message = _CODEC.decode


def is_relay_message(frame_type: int) -> bool:
    """Return whether frames of this type carry one of these messages."""
    return frame_type in _TYPES


_TYPES = frozenset(RelayMessageType)
