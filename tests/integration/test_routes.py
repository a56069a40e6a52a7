"""Who asks chooses the nodes of the route: pinned, allowed, blocked, private. Spans overlap."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nodes import Answer, Swarm, ask, running_swarm

from gridnode.core.ids import show_peer
from gridnode.core.route_wishes import RouteWishes
from gridnode.core.spans import Span
from gridnode.errors import NoCapacity, NoRoute
from gridnode.node.node import Node

pytestmark = pytest.mark.swarm

PROMPT = (1, 2, 3)


def cuts(answer: Answer) -> list[tuple[str, int, int]]:
    return [(hop.public_name, hop.start, hop.end) for hop in answer.started.route]


async def check_wishes(swarm: Swarm) -> None:
    first, _, last = swarm.nodes
    anywhere = await ask(first, PROMPT)

    async def asked(node: Node = first, **wishes: object) -> Answer:
        return await ask(node, PROMPT, routing=RouteWishes(**wishes))  # type: ignore[arg-type]

    pinned = await asked(route=("node 0", "node 1", show_peer(last.peer_id)[:10]))
    assert [name for name, _, _ in cuts(pinned)] == ["node 0", "node 1", "node 2"]
    assert [name for name, _, _ in cuts(await asked(route=("node 0", "node 2")))] == ["node 0", "node 2"]
    assert "node 1" not in [name for name, _, _ in cuts(await asked(block=("node 1",)))]
    assert pinned.token_ids == anywhere.token_ids

    with pytest.raises(NoRoute, match=r"blocks 3:4 of 0:4 .* that the request allows"):
        await asked(allow=("node 0", "node 1"))
    with pytest.raises(NoCapacity, match="'nobody', which serves nothing of this model now"):
        await asked(route=("node 0", "nobody"))

    # The last node has no first block: with it alone at home, the request is refused.
    with pytest.raises(NoRoute, match="that the request allows"):
        await asked(last, private=True)
    at_home = await asked(last, private=True, home=(show_peer(first.peer_id),))
    assert (cuts(at_home)[0][0], cuts(at_home)[-1][0]) == ("node 0", "node 2")
    assert at_home.token_ids == anywhere.token_ids


def test_b13_overlapping_spans_make_one_route_and_wishes_choose_its_nodes(tiny_llama: Path) -> None:
    """B13, on a smaller model: spans that overlap at both ends; no node is asked twice in a session."""

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(1, 3), Span(1, 4)]) as swarm:
            await check_wishes(swarm)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_what_ran_through_a_node_is_measured(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            node = swarm.nodes[0]
            await ask(node, PROMPT, max_tokens=20)
            view = node.models.view()
            assert set(view.paces) == {n.peer_id for n in swarm.nodes}
            assert all(pace.block_s > 0 and pace.wait_s >= 0 for pace in view.paces.values())
            assert not view.own_sessions

    asyncio.run(scenario())
