"""Made-up peers for tests of routes: six blocks of a model, and links of 10 ms."""

from __future__ import annotations

from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.hop_costs import Links
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import QuantFormat
from gridnode.core.routing import RouteRequest
from gridnode.core.spans import Span

MODEL = ModelId("tiny", "a" * 64)
A, B, C, D = (PeerId(bytes([n]) * 32) for n in range(1, 5))
REQUEST = RouteRequest(model=MODEL, num_blocks=6, cache_tokens=10)
NEAR = Links(
    own=dict.fromkeys((A, B, C, D), 0.01), between={(x, y): 0.01 for x in (A, B, C, D) for y in (A, B, C, D)}
)


def peer(
    peer_id: PeerId, start: int, end: int, *, block_s: float = 0.001, free: int = 100, model: ModelId = MODEL
) -> Announcement:
    return Announcement(
        peer_id=peer_id,
        sequence=1,
        ttl_s=90.0,
        state=PeerState.ONLINE,
        swarm="home",
        serving=Serving(
            model=model,
            num_blocks=6,
            span=Span(start, end),
            has_embeddings=start == 0,
            has_head=end == 6,
            quantization=QuantFormat.NONE,
            max_session_tokens=100,
            free_cache_tokens=free,
            decode_block_s=block_s,
        ),
    )
