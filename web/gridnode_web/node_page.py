"""The page of one node: what it serves, how busy and how fast it is, its day, its links."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.interface import NodeControl
from gridnode.control.served_relay import describe_losses
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode_web.coverage import cover, servings
from gridnode_web.rendering import page
from gridnode_web.sparkline import day

# Ids are told by their first characters in logs and tables.
MIN_ID_CHARACTERS = 4
RECENT = 20


def node_route(control: NodeControl) -> Route:
    """Return the page at `/node/PEER`, where PEER is a full id or the beginning of one."""

    async def node(request: Request) -> Response:
        status, wanted = control.status(), request.path_params["peer"].lower()
        found = [peer for peer in status.peers if peer.peer_id.startswith(wanted)]
        if len(found) != 1 or len(wanted) < MIN_ID_CHARACTERS:
            # Who has left still has a history.
            return await _absent(request, control, wanted, len(found))
        return await _present(request, control, status, found[0])

    return Route("/node/{peer}", node)


async def _present(request: Request, control: NodeControl, status: NodeStatus, peer: PeerStatus) -> Response:
    serving = peer.serving
    model = next((m for m in status.models if serving and m.manifest == serving.manifest), None)
    recent = await control.history.activity(limit=RECENT, peer_id=peer.peer_id)
    names = {other.peer_id: other for other in status.peers}
    links = [(names[link.peer_id], link.rtt_s) for link in peer.links if link.peer_id in names]
    return page(
        request,
        "node.html",
        node=status,
        peer=peer,
        model=model,
        coverage=cover(model, servings(status.peers)[model.manifest]) if model else None,
        lines=day(await control.history.samples(peer.peer_id), now=time.time()),
        work=next((w for w in await control.history.work() if w.peer_id == peer.peer_id), None),
        failovers=await control.history.activity(limit=200, peer_id=peer.peer_id, kind="failover"),
        links=sorted(links, key=lambda link: link[1]),
        recent=recent,
        relay_losses=describe_losses(status.served_relay.counters) if status.served_relay else "",
    )


async def _absent(request: Request, control: NodeControl, wanted: str, num_found: int) -> Response:
    recent = await control.history.activity(limit=RECENT, peer_id=wanted)
    return page(request, "absent.html", status=404, wanted=wanted, is_ambiguous=num_found > 1, recent=recent)
