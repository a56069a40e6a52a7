from __future__ import annotations

import asyncio

import httpx
from fake_node import FakeHistory, FakeNode
from fake_swarm import small_swarm
from prometheus_client.parser import text_string_to_metric_families

from gridnode.control.door import create_door
from gridnode.control.history import Activity, Sample, Work


def get(node: FakeNode, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_door(node), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_state_is_told_in_petals_words() -> None:
    found = get(FakeNode(current=small_swarm()), "/api/v1/state").json()
    assert found["model_reports"][1]["state"] == "broken"
    assert {"top_contributors", "reachability_issues", "last_updated"} <= found.keys()


def test_reachability_is_told_with_the_reason() -> None:
    node = FakeNode(silent=frozenset({"b" * 52}))
    assert get(node, f"/api/v1/is_reachable/{'a' * 52}").json() == {
        "success": True,
        "message": None,
        "your_ip": "127.0.0.1",
        "rtt_s": 0.012,
    }
    silent = get(node, f"/api/v1/is_reachable/{'b' * 52}").json()
    assert (silent["success"], silent["message"]) == (False, "node bbbbbbbb does not answer")


def test_history_is_told() -> None:
    history = FakeHistory(
        activities=tuple(
            Activity(at=1.0, kind="joined", peer_id="a", public_name="", text="", number=n) for n in (3, 2, 1)
        ),
        sampled={"a": (Sample(at=1.0, tokens=5),)},
        worked=(Work(peer_id="a", public_name="Ada", block_tokens=9, first_at=1.0, last_at=2.0),),
    )
    node = FakeNode(history=history)
    assert [a["number"] for a in get(node, "/api/v1/activity?before=3&limit=1").json()] == [2]
    assert get(node, "/api/v1/activity?before=x").status_code == 400
    assert get(node, "/api/v1/samples/a").json()[0]["tokens"] == 5
    assert get(node, "/api/v1/contributors").json()[0]["block_tokens"] == 9


def test_metrics_are_in_the_text_format() -> None:
    answer = get(FakeNode(current=small_swarm()), "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for family in text_string_to_metric_families(answer.text):
        assert any(line.startswith(f"# HELP {family.name}") for line in lines)
        assert any(line.startswith(f"# TYPE {family.name}") for line in lines)
