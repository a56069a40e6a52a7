"""The page Swarm: models, block ruler, coverage, what a new node should serve, topology."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus
from gridnode_web.coverage import Coverage, Servings, advice, cover, servings
from gridnode_web.rendering import page
from gridnode_web.topology import draw
from gridnode_web.windows import Window, window
from gridnode_web.wording import plain

RECENT = 6
# More cards push the blocks below them out of sight, and strangers say how many models there are.
MAX_CARDS = 24
MAX_SEARCH_CHARACTERS = 64
# Steps between labels of blocks that people count in.
_TICK_STEPS = (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 256, 512, 1024)
MAX_TICKS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model in the list of models."""

    model: ModelStatus
    serving: Servings
    coverage: Coverage
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
        card = next((card for card in cards if card.is_selected), None)
        selected, serving = (card.model, card.serving) if card else (None, ())
        return page(
            request,
            "swarm.html",
            node=status,
            cards=cards,
            num_more=len(status.models) - len(cards),
            selected=card,
            window=_window(serving, search, sort, asked.get("from", "")),
            ticks=ticks(selected.num_blocks) if selected else [],
            advice=advice(selected, serving, join=join_address(status)) if selected else None,
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
    """Return the models with the most nodes, `MAX_CARDS` of them, and the selected one.

    Selected is the model with the manifest hash `wanted`, or the one with the most nodes.
    """
    by_model = servings(status.peers)
    found = [(model, by_model.get(model.manifest, ())) for model in status.models]
    shown = heapq.nlargest(MAX_CARDS, range(len(found)), key=lambda i: len(found[i][1]))
    wished = [i for i, (model, _) in enumerate(found) if model.manifest == wanted]
    selected = (wished or shown)[:1]
    drawn = {*shown, *selected}
    return [
        ModelCard(model=model, serving=serving, coverage=cover(model, serving), is_selected=i in selected)
        for i, (model, serving) in enumerate(found)
        if i in drawn
    ]


def _window(serving: Servings, search: str, sort: str, wanted: str) -> Window[PeerStatus]:
    found = find([peer for peer, _ in serving], search)
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
