from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from fake_swarm import ReadPeers, peer, small_swarm

from gridnode.control.state_report import report_state
from gridnode.control.status_schema import LinkStatus


def test_models_are_healthy_if_every_block_is_served() -> None:
    report = report_state(small_swarm(), now=5.0)
    assert [(m.short_name, m.state) for m in report.model_reports] == [
        ("Llama-3.1-70B-Instruct", "healthy"),
        ("SmolLM2-135M-Instruct", "broken"),
    ]
    assert report.model_reports[1].missing == ((22, 30),)
    assert report.last_updated == 5.0


def test_contributors_count_blocks_of_online_nodes_the_most_first() -> None:
    top = report_state(small_swarm(), now=0.0).top_contributors
    assert top["https://example.org/lab"] == 24
    assert list(top.values()) == sorted(top.values(), reverse=True)
    assert "Hedy" not in top  # she is leaving


def test_a_relay_beside_the_node_is_told_with_its_counters() -> None:
    told = msgspec.to_builtins(report_state(small_swarm(), now=0.0))["served_relay"]
    assert told["max_nodes"] == 1024
    assert (told["counters"]["websocket_nodes"], told["counters"]["dropped_node_rate"]) == (1, 30)


def test_rows_carry_what_petals_told() -> None:
    link = LinkStatus(peer_id="b" * 52, rtt_s=0.01)
    server = replace(peer(0, 0, 20, model="org/tiny", num_blocks=80), links=(link,))
    status = small_swarm()
    tiny = replace(status.models[0], name="org/tiny", manifest=server.serving.manifest)  # type: ignore[union-attr]
    report = report_state(replace(status, peers=(server,), models=(tiny,)), now=0.0)
    found = msgspec.to_builtins(report)["model_reports"][0]
    assert found["repository"] == "https://huggingface.co/org/tiny"
    row = found["server_rows"][0]
    assert (row["span"]["start"], row["span"]["end"]) == (0, 20)
    info = row["span"]["server_info"]
    assert info["next_pings"] == {"b" * 52: 0.01}
    assert info["inference_rps"] == info["throughput"] * 20
    assert row["cache_tokens_left_per_block"] == info["cache_tokens_left"] // 40


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("relay", True),
        ("websocket", True),
        ("direct", False),
        ("punched", False),
        ("lan", False),
        ("none", None),
    ],
)
def test_a_relay_is_told_however_it_is_reached(path: str, told: bool | None) -> None:
    status = small_swarm()
    report = report_state(replace(status, peers=(replace(status.peers[1], path=path),)), now=0.0)
    (row,) = report.model_reports[0].server_rows
    assert row.span.server_info.using_relay is told


def test_peers_are_looked_through_once_for_all_models() -> None:
    peers = ReadPeers(small_swarm().peers)
    few, many = (replace(small_swarm(), peers=peers, models=small_swarm().models * n) for n in (1, 50))
    report_state(few, now=0.0)
    num_looks, peers.num_looks = peers.num_looks, 0
    report_state(many, now=0.0)
    assert peers.num_looks == num_looks


def test_unreachable_nodes_are_issues() -> None:
    status = small_swarm()
    lost = replace(status.peers[1], state="unreachable", problem="no answer within 5 s")
    report = report_state(replace(status, peers=(status.peers[0], lost)), now=0.0)
    assert [(i.peer_id, i.err) for i in report.reachability_issues] == [
        (lost.peer_id, "no answer within 5 s")
    ]
