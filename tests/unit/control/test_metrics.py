from __future__ import annotations

from dataclasses import replace

from fake_node import STATUS, FakeNode
from fake_swarm import hostile_swarm, large_swarm, small_swarm
from prometheus_client.parser import text_string_to_metric_families

from gridnode.control.metrics import MAX_VERSIONS, render_metrics
from gridnode.control.status_schema import NodeStatus


def samples(status: NodeStatus) -> dict[str, list[tuple[dict[str, str], float]]]:
    text = render_metrics(FakeNode(current=status)).decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(found: list[tuple[dict[str, str], float]], **labels: str) -> float:
    (number,) = [number for given, number in found if labels.items() <= given.items()]
    return number


def test_the_swarm_is_counted_by_state() -> None:
    found = samples(small_swarm())
    assert value(found["gridnode_nodes"], state="online") == 11
    assert value(found["gridnode_nodes"], state="unreachable") == 1
    assert value(found["gridnode_model_missing_blocks"], model="SmolLM2-135M-Instruct") == 8
    assert value(found["gridnode_model_replicas_min"], model="Llama-3.1-70B-Instruct") == 2
    assert value(found["gridnode_model_nodes"], model="Llama-3.1-70B-Instruct", state="joining") == 1


def test_own_figures_are_told() -> None:
    found = samples(replace(small_swarm(), computed_answer_tokens=7, computed_prompt_tokens=90))
    assert value(found["gridnode_computed_tokens_total"], kind="answer") == 7
    assert value(found["gridnode_engine_ready"]) == 1
    assert value(found["gridnode_sessions"]) == 2


def test_a_relay_beside_a_node_is_told_and_none_is_not() -> None:
    found = samples(small_swarm())
    assert value(found["gridnode_relay_nodes"], by="websocket") == 1
    assert value(found["gridnode_relay_forwarded_bytes_total"], by="udp") == 96 * 2**20
    assert value(found["gridnode_relay_dropped_packets_total"], reason="node_rate") == 30
    assert value(found["gridnode_relay_refused_total"], limit="nodes_per_address") == 2
    assert value(found["gridnode_relay_registrations_total"]) == 9
    assert "gridnode_relay_nodes" not in samples(STATUS)


def test_percentiles_need_one_link_only() -> None:
    status = small_swarm()
    found = samples(replace(status, peers=status.peers[:2]))
    times = {number for _, number in found["gridnode_link_rtt_seconds"]}
    assert times == {status.peers[1].rtt_s}
    assert "gridnode_link_rtt_seconds" not in samples(replace(STATUS, peers=STATUS.peers[:1]))


def test_words_of_strangers_make_few_and_valid_series() -> None:
    samples(hostile_swarm())
    status = large_swarm(60)
    peers = tuple(replace(peer, version=f"v{i}\n\x1b") for i, peer in enumerate(status.peers))
    assert len(samples(replace(status, peers=peers))["gridnode_node_versions"]) == MAX_VERSIONS
