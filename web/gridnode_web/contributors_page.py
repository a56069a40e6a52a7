"""The page Contributors: who gives how much, small donors too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.history import Work
from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode_web.rendering import page
from gridnode_web.windows import window
from gridnode_web.wording import plain

_LINK = re.compile(r"https?://[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9/_.~%?=&#+-]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributor:
    """Everything given under one public name, or by one node without a name."""

    name: str
    """What to call them: their name, or the short id of their node."""

    link: str
    """Where their name leads, or nothing."""

    peer_ids: tuple[str, ...]
    """Their nodes, those of the swarm first."""

    num_online: int
    blocks: int
    """Blocks that they hold now, over all their nodes."""

    block_tokens: int
    """Work done, as this node knows."""

    share: float
    """Their part of all work, 0 to 1."""

    last_at: float | None
    """When they were last seen working."""

    is_self: bool


ORDERS: dict[str, Callable[[Contributor], tuple[int, int]]] = {
    "work": lambda c: (-c.block_tokens, -c.blocks),
    "blocks": lambda c: (-c.blocks, -c.block_tokens),
}


def contributors_route(control: NodeControl) -> Route:
    """Return the page at `/contributors`."""

    async def contributors(request: Request) -> Response:
        status = control.status()
        order = request.query_params.get("sort", "")
        order = order if order in ORDERS else "work"
        found = credit(status, await control.history.work(), order=order)
        return page(
            request,
            "contributors.html",
            node=status,
            window=window(found, request.query_params.get("from", "")),
            total=sum(contributor.block_tokens for contributor in found),
            order=order,
        )

    return Route("/contributors", contributors)


def link_of(name: str) -> str:
    """Return the address that a public name is, or nothing."""
    return name if _LINK.fullmatch(name) else ""


def credit(status: NodeStatus, work: Iterable[Work], *, order: str = "work") -> list[Contributor]:
    """Return all contributors, one's own name first, then by `order`, one of `ORDERS`."""
    done = {w.peer_id: w for w in work}
    present = {peer.peer_id: peer for peer in status.peers}
    groups: dict[str, list[str]] = {}
    for peer_id in [*present, *(key for key in done if key not in present)]:
        gives = peer_id in done or present[peer_id].serving is not None
        if gives:
            name = present[peer_id].public_name if peer_id in present else done[peer_id].public_name
            groups.setdefault(plain(name) and name, []).append(peer_id)
    nameless = groups.pop("", [])
    everyone = [*groups.items(), *(("", [peer_id]) for peer_id in nameless)]
    total = sum(w.block_tokens for w in done.values())
    found = [_contributor(name, peer_ids, present, done, total) for name, peer_ids in everyone]
    return sorted(found, key=lambda c: (not c.is_self, ORDERS[order](c), c.name))


def _contributor(
    name: str, peer_ids: Sequence[str], present: dict[str, PeerStatus], done: dict[str, Work], total: int
) -> Contributor:
    peers = [present[peer_id] for peer_id in peer_ids if peer_id in present]
    held = [peer.serving for peer in peers if peer.serving and peer.state == "online"]
    worked = [done[peer_id] for peer_id in peer_ids if peer_id in done]
    block_tokens = sum(w.block_tokens for w in worked)
    return Contributor(
        name=plain(name) or peer_ids[0][:8],
        link=link_of(name),
        peer_ids=tuple(peer_ids),
        num_online=len(held),
        blocks=sum(serving.end - serving.start for serving in held),
        block_tokens=block_tokens,
        share=block_tokens / total if total else 0.0,
        last_at=max((w.last_at for w in worked), default=None),
        is_self=any(peer.is_self for peer in peers),
    )
