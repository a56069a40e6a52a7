"""The pages as HTML, without a browser."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace

import httpx
import pytest
from fake_node import STATUS, FakeNode
from fake_swarm import (
    HOSTILE,
    ReadPeers,
    hostile_swarm,
    large_swarm,
    lively_history,
    model,
    peer,
    small_swarm,
)

from gridnode.control.door import create_door
from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import NodeStatus
from gridnode.core.spans import MAX_BLOCKS
from gridnode_web.pages import make_pages
from gridnode_web.swarm_page import MAX_CARDS
from gridnode_web.windows import WINDOW_ROWS

PAGES = ["/", "/contributors", "/activity"]


def get(control: NodeControl, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        app = create_door(control, pages=make_pages(control))
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


def lively(status: object = None) -> FakeNode:
    current = status or small_swarm()
    return FakeNode(current=current, history=lively_history(current, time.time()))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", PAGES)
def test_pages_trust_nothing_but_their_node(path: str) -> None:
    answer = get(lively(), path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<style|style=|<script>|onclick=", answer.text)
    assert set(re.findall(r'(?:src|href)="(https?://[^"]*)', answer.text)) <= {"https://example.org/lab"}


def test_a_node_that_is_a_relay_says_on_its_page_what_passes() -> None:
    node = FakeNode(current=small_swarm())
    html = get(node, f"/node/{node.current.short}").text
    assert "Relay for others" in html
    for part in ("5 of 1,024", "4 by UDP, 1 by WebSocket", "30 above the rate of one node"):
        assert part in html
    assert "Relay for others" not in get(node, f"/node/{node.current.peers[1].short}").text


@pytest.mark.parametrize("path", [*PAGES, "/node/{peer}"])
def test_what_strangers_wrote_is_text(path: str) -> None:
    node = lively(hostile_swarm())
    for who in node.current.peers:
        html = get(node, path.format(peer=who.peer_id)).text
        assert "<img" not in html.replace('<img src="/static/icon.svg"', "")
        assert "<b>home" not in html
        assert "window.hacked = 1</script>" not in html
        assert "\u202e" not in html
        assert 'href="javascript:' not in html
        assert "A" * 64 not in html


def test_swarm_page_shows_every_node_its_state_and_the_gap() -> None:
    node = lively()
    html = get(node, f"/?model={node.current.models[1].manifest}").text
    assert "blocks missing" in html
    assert "gridnode up --model SmolLM2-135M-Instruct --blocks 22:30 --join 127.0.0.1:7338" in html
    assert html.count('<tr class="node') == 2


def test_large_tables_are_sent_in_windows_that_links_reach() -> None:
    node = lively(large_swarm(500))
    html = get(node, "/").text
    assert html.count('<tr class="node') == WINDOW_ROWS
    assert f"from={WINDOW_ROWS}" in html
    assert get(node, "/?from=480").text.count('<tr class="node') == WINDOW_ROWS
    assert len(html) < 150_000


def swarm_of_models(num_models: int, *, num_blocks: int = 8) -> NodeStatus:
    """A swarm of as many models; one node has a tenth of each, and the first one has a second node."""
    end = num_blocks // 10 + 1
    peers = [
        peer(i, 0, end, model=f"model {i % num_models}", num_blocks=num_blocks) for i in range(num_models + 1)
    ]
    models = [model(f"model {i}", num_blocks, peers) for i in range(num_models)]
    return replace(STATUS, peers=ReadPeers(peers), models=tuple(models))


def test_models_with_the_most_nodes_are_shown_and_one_that_is_asked_for() -> None:
    status = swarm_of_models(MAX_CARDS + 9)
    node = FakeNode(current=replace(status, models=status.models[::-1]))
    html = get(node, "/").text
    assert html.count('<li class="card model') == MAX_CARDS
    assert "and 9 more" in html
    assert "Blocks of model 0<" in html
    hidden = status.models[1]
    assert f"?model={hidden.manifest}" not in html
    html = get(node, f"/?model={hidden.manifest}").text
    assert html.count('<li class="card model') == MAX_CARDS + 1
    assert "Blocks of model 1<" in html
    assert "more-models" not in get(FakeNode(current=swarm_of_models(MAX_CARDS)), "/").text


def test_neither_page_nor_work_grows_with_what_strangers_announce() -> None:
    deep = FakeNode(current=swarm_of_models(MAX_CARDS, num_blocks=MAX_BLOCKS))
    for path in ("/", f"/node/{deep.current.peers[0].peer_id}"):
        assert len(get(deep, path).text) < 500_000

    def num_looks(num_models: int) -> int:
        node = FakeNode(current=swarm_of_models(num_models))
        get(node, "/")
        return node.current.peers.num_looks  # type: ignore[attr-defined, no-any-return]

    assert num_looks(4 * MAX_CARDS) == num_looks(2 * MAX_CARDS)


def test_links_through_relays_are_told_from_direct_ones() -> None:
    status = small_swarm()
    by_tcp = tuple(p if p.is_self else replace(p, path="websocket") for p in status.peers)
    html = get(FakeNode(current=replace(status, peers=by_tcp)), "/").text
    assert "through a relay" in html
    assert "path-direct" not in html


def test_search_finds_names_and_ids() -> None:
    node = lively()
    assert get(node, "/?find=gRaCe").text.count('<tr class="node') == 1
    peer = node.current.peers[3]
    assert f"row-{peer.peer_id}" in get(node, f"/?find={peer.short}").text
    nobody = get(node, '/?find="><script>').text
    assert "No node is called like that" in nobody
    assert '"><script>' not in nobody


def test_a_swarm_without_models_says_what_to_do() -> None:
    html = get(FakeNode(current=replace(STATUS, models=(), peers=())), "/").text
    assert "Nobody serves a model yet" in html


def test_node_page_takes_the_beginning_of_an_id() -> None:
    node = lively()
    peer = node.current.peers[3]
    html = get(node, f"/node/{peer.short}").text
    assert peer.peer_id in html
    assert "20:44" in html


def test_who_is_gone_still_has_a_history() -> None:
    node = lively()
    gone = node.current.peers[-1]
    node.current = replace(node.current, peers=node.current.peers[:-1])
    answer = get(node, f"/node/{gone.peer_id}")
    assert answer.status_code == 404
    assert "No node" in answer.text


def test_who_cannot_be_reached_is_told_with_the_reason() -> None:
    node = lively()
    lost = replace(node.current.peers[1], state="unreachable", problem="no answer within <5 s>")
    node.current = replace(node.current, peers=(node.current.peers[0], lost, *node.current.peers[2:]))
    for path in ("/", f"/node/{lost.peer_id}"):
        assert "no answer within &lt;5 s&gt;" in get(node, path).text


def test_who_pauses_is_told_with_the_reason() -> None:
    status = small_swarm()
    resting = replace(
        status.peers[3], state="paused", serving=None, public_name="Ada", pause_reason="on <b>battery"
    )
    node = lively(replace(status, peers=(*status.peers[:3], resting, *status.peers[4:])))
    assert "(on &lt;b&gt;battery)" in get(node, "/").text
    page = get(node, f"/node/{resting.peer_id}").text
    assert "It pauses: on &lt;b&gt;battery" in page
    assert "Resting" not in get(lively(status), "/").text


def test_activity_of_one_kind() -> None:
    html = get(lively(), "/activity?kind=failover").text
    assert html.count('<li class="failover"') > 1
    assert '<li class="joined"' not in html


def test_hostile_names_are_what_the_tests_think_they_are() -> None:
    assert len(HOSTILE) == len(hostile_swarm().peers)
