"""The view of a swarm that one node has: announcements that have not expired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.spans import Span, coverage, gaps

# Peers in one view; a swarm of 500 is large. A stranger may not make us remember more.
MAX_PEERS = 4096


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer's newest announcement and when it stops to count."""

    announcement: Announcement
    expires_at: float
    """Seconds on the clock of whoever calls `apply` and `expire`."""

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""
        return self.announcement.peer_id


@dataclass(frozen=True, slots=True)
class SwarmState:
    """Immutable: `apply` and `expire` return the next state, or the same object if nothing changed."""

    peers: Mapping[PeerId, Peer] = field(default_factory=lambda: MappingProxyType({}))

    sequences: Mapping[PeerId, int] = field(default_factory=lambda: MappingProxyType({}))
    """Newest sequence number of every peer heard of, the expired ones too: refuses replays."""

    me: PeerId | None = None
    """Whose view it is: it knows for sure how many blocks the model has that it serves."""

    def apply(self, announcement: Announcement, *, now: float, age_s: float = 0.0) -> SwarmState:
        """Return the state after hearing `announcement`, which was made `age_s` seconds ago.

        An announcement that is not newer than the known one, is too old, or has no room is ignored.
        """
        peer_id = announcement.peer_id
        if announcement.sequence <= self.sequences.get(peer_id, -1):
            return self
        remaining_s = announcement.ttl_s - max(age_s, 0.0)
        if remaining_s <= 0 or (peer_id not in self.peers and len(self.peers) >= MAX_PEERS):
            return self
        peers = dict(self.peers)
        if announcement.state is PeerState.OFFLINE:
            peers.pop(peer_id, None)
        else:
            peers[peer_id] = Peer(announcement, now + remaining_s)
        sequences = self._remember(peer_id, announcement.sequence)
        return replace(self, peers=MappingProxyType(peers), sequences=sequences)

    def _remember(self, peer_id: PeerId, sequence: int) -> Mapping[PeerId, int]:
        sequences = {key: value for key, value in self.sequences.items() if key != peer_id}
        sequences[peer_id] = sequence  # the newest last, so that the oldest are forgotten first
        while len(sequences) > 2 * MAX_PEERS:
            del sequences[next(iter(sequences))]
        return MappingProxyType(sequences)

    def expire(self, *, now: float) -> SwarmState:
        """Return the state without the peers whose announcement was not renewed in time."""
        alive = {peer_id: peer for peer_id, peer in self.peers.items() if now < peer.expires_at}
        return self if len(alive) == len(self.peers) else replace(self, peers=MappingProxyType(alive))

    def without(self, peer_id: PeerId) -> SwarmState:
        """Return the state without a peer that was seen to be gone; its next announcement brings it back."""
        alive = {key: peer for key, peer in self.peers.items() if key != peer_id}
        return self if len(alive) == len(self.peers) else replace(self, peers=MappingProxyType(alive))

    def models(self) -> dict[ModelId, int]:
        """Return every model that somebody loads or serves, with its number of blocks.

        Where peers disagree, most of them are right, and of as many those heard first; but this node knows
        best what it serves itself. Others are passed by: none of them may make a model unusable.
        """
        said: dict[ModelId, Counter[int]] = {}
        for serving in self._servings():
            said.setdefault(serving.model, Counter())[serving.num_blocks] += 1
        return {model: self._agreed(model, counts) for model, counts in said.items()}

    def _agreed(self, model: ModelId, said: Counter[int]) -> int:
        own = self.peers.get(self.me) if self.me is not None else None
        serving = own.announcement.serving if own else None
        if serving is not None and serving.model == model:
            return serving.num_blocks
        return max(said, key=said.__getitem__)

    def _servings(self) -> list[Serving]:
        return [peer.announcement.serving for peer in self.peers.values() if peer.announcement.serving]

    def serving(self, model: ModelId, *, states: frozenset[PeerState] | None = None) -> list[Announcement]:
        """Return the announcements of who serves `model`, by default those that are online.

        Who announces another number of its blocks than `models` serves something else.
        """
        wanted = states or frozenset({PeerState.ONLINE})
        everyone = [
            (peer.announcement, serving)
            for peer in self.peers.values()
            if (serving := peer.announcement.serving) is not None and serving.model == model
        ]
        if not everyone:
            return []
        num_blocks = self._agreed(model, Counter(serving.num_blocks for _, serving in everyone))
        return [
            announcement
            for announcement, serving in everyone
            if announcement.state in wanted and serving.num_blocks == num_blocks
        ]

    def spans(self, model: ModelId, *, states: frozenset[PeerState] | None = None) -> list[Span]:
        """Return the spans of `model` that are served."""
        return [ann.serving.span for ann in self.serving(model, states=states) if ann.serving]

    def coverage(self, model: ModelId, num_blocks: int) -> list[int]:
        """Return for each block of `model` how many online peers serve it."""
        return coverage(self.spans(model), num_blocks)

    def gaps(self, model: ModelId, num_blocks: int) -> tuple[Span, ...]:
        """Return the blocks of `model` that no online peer serves."""
        return gaps(self.spans(model), num_blocks)
