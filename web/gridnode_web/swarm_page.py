"""The page Swarm: models, block ruler, coverage, what a new node should serve, topology."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus
from gridnode_web.coverage import Coverage, advice, cover, servings
from gridnode_web.rendering import page
from gridnode_web.topology import draw
from gridnode_web.windows import Window, window
from gridnode_web.wording import plain

RECENT = 6
MAX_SEARCH_CHARACTERS = 64
# Steps between labels of blocks that people count in.
_TICK_STEPS = (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 256, 512, 1024)
MAX_TICKS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model in the list of models."""

    model: ModelStatus
    coverage: Coverage
    num_nodes: int
    is_selected: bool


def _speed(peer: PeerStatus) -> float:
    return peer.serving.decode_tokens_per_s if peer.serving else 0.0


def _blocks(peer: PeerStatus) -> tuple[int, int]:
    return (peer.serving.start, peer.serving.end) if peer.serving else (1 << 20, 0)


SORTS: dict[str, tuple[str, Callable[[PeerStatus], tuple[object, ...]]]] = {
    "blocks": ("Blocks", lambda p: (_blocks(p), p.short)),
    "name": ("Name", lambda p: (plain(p.public_name).casefold() or "\uffff", p.short)),
    "speed": ("Speed", lambda p: (-_speed(p), p.short)),
    "link": ("Link", lambda p: (math.inf if p.rtt_s is None else p.rtt_s, p.short)),
}


def swarm_route(control: NodeControl) -> Route:
    """Return the page at `/`."""

    async def swarm(request: Request) -> Response:
        asked, status = request.query_params, control.status()
        search = asked.get("find", "")[:MAX_SEARCH_CHARACTERS]
        sort = asked.get("sort", "")
        sort = sort if sort in SORTS else "blocks"
        cards = model_cards(status, asked.get("model", ""))
        selected = next((card.model for card in cards if card.is_selected), None)
        return page(
            request,
            "swarm.html",
            node=status,
            cards=cards,
            selected=next((card for card in cards if card.is_selected), None),
            window=_window(status, selected, search, sort, asked.get("from", "")),
            ticks=ticks(selected.num_blocks) if selected else [],
            advice=advice(selected, status.peers, join=join_address(status)) if selected else None,
            join=join_address(status),
            topology=draw(status.peers, selected.route_peers if selected else ()),
            idle=[p for p in status.peers if not p.serving],
            recent=await control.history.activity(limit=RECENT),
            search=search,
            sort=sort,
            sorts=SORTS,
        )

    return Route("/", swarm)


def join_address(status: NodeStatus) -> str:
    """Return where others reach this node: `listen` may stand for all its addresses."""
    return next((peer.address for peer in status.peers if peer.is_self and peer.address), status.listen)


def model_cards(status: NodeStatus, wanted: str) -> list[ModelCard]:
    """Return the models; the one with the manifest hash `wanted` is selected, or the one with most nodes."""
    nodes = {model.manifest: len(servings(model, status.peers)) for model in status.models}
    selected = wanted if wanted in nodes else max(nodes, key=lambda key: nodes[key], default="")
    return [
        ModelCard(
            model=model,
            coverage=cover(model, status.peers),
            num_nodes=nodes[model.manifest],
            is_selected=model.manifest == selected,
        )
        for model in status.models
    ]


def _window(
    status: NodeStatus, model: ModelStatus | None, search: str, sort: str, wanted: str
) -> Window[PeerStatus]:
    peers = [peer for peer, _ in servings(model, status.peers)] if model else []
    found = find(peers, search)
    return window(sorted(found, key=SORTS[sort][1]), wanted)


def find(peers: Sequence[PeerStatus], search: str) -> list[PeerStatus]:
    """Return the peers whose name has `search` in it, or whose id begins with it."""
    wanted = search.strip().casefold()
    return [p for p in peers if wanted in p.public_name.casefold() or p.peer_id.startswith(wanted)]


def ticks(num_blocks: int) -> list[int]:
    """Return the blocks to name below a ruler: round numbers, and the end."""
    step = next((step for step in _TICK_STEPS if num_blocks / step <= MAX_TICKS), num_blocks)
    marks = list(range(0, num_blocks, step))
    # A label directly before the end would run into it.
    return [a for a, b in pairwise([*marks, num_blocks]) if b - a >= step / 2 or a == 0] + [num_blocks]
