"""What a peer says about itself: one record per node, signed, with a relative lifetime."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gridnode.core.addresses import Address, check_address, check_port
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import QuantFormat
from gridnode.core.relays import HOME_RELAYS, MAX_HOST_CHARACTERS, Relay
from gridnode.core.spans import MAX_BLOCKS, Span

# Names are chosen by strangers and shown to people.
MAX_PUBLIC_NAME_CHARACTERS = 64
MAX_ADDRESSES = 16
# Two or three words, of strangers as well.
MAX_PAUSE_REASON_CHARACTERS = 80
# A node publishes its round-trip times to likely next hops only.
MAX_ANNOUNCED_RTTS = 32
# Ten minutes: longer silence than any announce interval; a record may not outlive its node by more.
MAX_TTL_S = 600.0
# Clocks of computers without time service are minutes off; more is a mistake, or somebody who plays back.
MAX_CLOCK_DIFFERENCE_S = 300.0
# Names of adapters are announced by every node that hosts them.
MAX_ADAPTERS = 8
MAX_ADAPTER_CHARACTERS = 96
# Ten minutes per block or round trip is no speed but a mistake.
MAX_STEP_S = 600.0
# A nanosecond: no computer is as fast, and the tokens per second of a shorter time may be infinite.
MIN_STEP_S = 1e-9
# What every number format keeps exactly: those of JSON and of a database too.
MAX_COUNT = 2**53
# A node serves some hundred sessions; more steps at once are a mistake.
MAX_QUEUED_STEPS = 1e6


class PeerState(StrEnum):
    """What a node is doing, as it says itself."""

    JOINING = "joining"
    """It has chosen blocks and loads them."""

    ONLINE = "online"
    """It serves."""

    LEAVING = "leaving"
    """It finishes what runs and takes nothing new."""

    PAUSED = "paused"
    """It stays in the swarm and serves nothing until its owner or the circumstances let it."""

    OFFLINE = "offline"
    """It is gone; sent as a goodbye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The blocks that a node serves, and how well."""

    model: ModelId
    num_blocks: int
    """Blocks of the whole model."""

    span: Span
    has_embeddings: bool
    """Whether sessions may start here with token ids."""

    has_head: bool
    """Whether sessions may end here with tokens or logits."""

    quantization: QuantFormat
    max_session_tokens: int
    """Longest session accepted, in tokens."""

    free_cache_tokens: int
    """Tokens of KV cache that could be leased now, over the whole span."""

    decode_block_s: float
    """Measured seconds of one decode step through one block."""

    total_cache_tokens: int = 0
    """Tokens of KV cache that the node has, leased or not; 0 if it does not tell."""

    open_sessions: int = 0
    """Sessions in which the node was a hop when it said so."""

    adapters: tuple[str, ...] = ()
    """LoRA adapters that sessions may choose here: their names, `@`, and the beginning of their hash."""

    queued_steps: float = 0.0
    """Steps that were there at once on average lately, those being computed included."""

    def __post_init__(self) -> None:
        if not 0 < self.num_blocks <= MAX_BLOCKS or self.span.end > self.num_blocks:
            raise ValueError(f"span {self.span} announced of {self.num_blocks} blocks")
        tokens = (self.max_session_tokens, self.free_cache_tokens, self.total_cache_tokens)
        if not all(0 <= count <= MAX_COUNT for count in (*tokens, self.open_sessions)):
            raise ValueError(
                f"a number of tokens or sessions outside 0..{MAX_COUNT} announced: "
                f"{tokens}, {self.open_sessions}"
            )
        if not 0.0 <= self.queued_steps <= MAX_QUEUED_STEPS:
            raise ValueError(f"queued_steps must be in 0..{MAX_QUEUED_STEPS:g}, got {self.queued_steps}")
        longest = max(map(len, self.adapters), default=0)
        if len(self.adapters) > MAX_ADAPTERS or longest > MAX_ADAPTER_CHARACTERS:
            raise ValueError(
                f"{len(self.adapters)} adapters announced, at most {MAX_ADAPTERS} with short names"
            )
        # Also refuses NaN, which would make every comparison of routes false.
        if not MIN_STEP_S <= self.decode_block_s <= MAX_STEP_S:
            raise ValueError(
                f"decode_block_s must be in {MIN_STEP_S:g}..{MAX_STEP_S:g}, got {self.decode_block_s}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A statement of a peer about itself. Newer ones, by `sequence`, replace older ones."""

    peer_id: PeerId
    sequence: int
    """Grows with every announcement of a peer, over restarts too: milliseconds since 1970."""

    ttl_s: float
    """Seconds that the statement stays valid after it was made."""

    state: PeerState
    swarm: str
    """Name of the swarm."""

    addresses: tuple[Address, ...] = ()
    public_name: str = ""
    version: str = ""
    serving: Serving | None = None
    rtts: tuple[tuple[PeerId, float], ...] = ()
    """Measured round-trip times to other peers, in seconds."""

    relays: tuple[Relay, ...] = ()
    """Home relays: where the node is reached if not at its addresses. Each with its id."""

    publishes_address: bool = False
    """Whether public monitors may show where the node is reached."""

    pause_reason: str = ""
    """Why the node pauses, if it does: for people."""

    @property
    def made_at_s(self) -> float:
        """When it was made, in seconds since 1970 on its node's clock."""
        return self.sequence / 1000

    def __post_init__(self) -> None:
        if not 0.0 < self.ttl_s <= MAX_TTL_S:
            raise ValueError(f"ttl_s must be in 0..{MAX_TTL_S:g}, got {self.ttl_s:g}")
        if len(self.public_name) > MAX_PUBLIC_NAME_CHARACTERS:
            raise ValueError(
                f"public name has {len(self.public_name)} characters, at most {MAX_PUBLIC_NAME_CHARACTERS}"
            )
        if len(self.pause_reason) > MAX_PAUSE_REASON_CHARACTERS:
            raise ValueError(
                f"reason to pause has {len(self.pause_reason)} characters, at most "
                f"{MAX_PAUSE_REASON_CHARACTERS}"
            )
        if len(self.addresses) > MAX_ADDRESSES:
            raise ValueError(f"{len(self.addresses)} addresses announced, at most {MAX_ADDRESSES}")
        for address in self.addresses:
            check_address(address)
        if len(self.rtts) > MAX_ANNOUNCED_RTTS:
            raise ValueError(f"{len(self.rtts)} round-trip times announced, at most {MAX_ANNOUNCED_RTTS}")
        _check_relays(self.relays)
        if not all(0.0 <= rtt_s <= MAX_STEP_S for _, rtt_s in self.rtts):
            raise ValueError(f"a round-trip time outside 0..{MAX_STEP_S:g} s announced")


def _check_relays(relays: tuple[Relay, ...]) -> None:
    if len(relays) > HOME_RELAYS:
        raise ValueError(f"{len(relays)} relays announced, at most {HOME_RELAYS}")
    if not all(relay.peer_id and len(relay.host) <= MAX_HOST_CHARACTERS for relay in relays):
        raise ValueError("a relay without an id announced, or with a host that is too long")
    for relay in relays:
        check_port(relay.port)


def is_from_the_future(announcement: Announcement, *, wall_s: float) -> bool:
    """Return whether `announcement` was made later than clocks may differ: it would outlive its successors.

    Args:
        wall_s: The present time in seconds since 1970.
    """
    return announcement.made_at_s > wall_s + MAX_CLOCK_DIFFERENCE_S


def least_age_s(announcement: Announcement, *, wall_s: float) -> float:
    """Return how old `announcement` is at least, as far as clocks may differ; at least 0.

    It is signed when it was made, but not how long it travelled: who plays it back can claim any age.
    """
    return max(0.0, wall_s - announcement.made_at_s - MAX_CLOCK_DIFFERENCE_S)
