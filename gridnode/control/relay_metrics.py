"""What a relay tells Prometheus, beside a node or alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gridnode.net.relay_counters import RelayCounters


def render_relay_metrics(counters: RelayCounters) -> bytes:
    """Return the figures of a relay that runs alone, in the text format of Prometheus, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_RelayCollector(counters))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def relay_metrics(counters: RelayCounters) -> Iterator[Metric]:
    """Yield the figures of a relay."""
    nodes = GaugeMetricFamily(
        "gridnode_relay_nodes", "Nodes that are registered with this relay.", labels=["by"]
    )
    nodes.add_metric(["udp"], counters.udp_nodes)
    nodes.add_metric(["websocket"], counters.websocket_nodes)
    yield nodes
    yield CounterMetricFamily(
        "gridnode_relay_registrations", "Times that a node was registered.", counters.registrations
    )
    yield _counted(
        "gridnode_relay_refused",
        "Registrations and WebSockets refused, by the limit that they met.",
        "limit",
        {"nodes": counters.refused_nodes, "nodes_per_address": counters.refused_nodes_per_address},
    )
    yield _counted(
        "gridnode_relay_forwarded_packets",
        "Packets forwarded, by what leads to their receiver.",
        "by",
        {"udp": counters.udp_packets, "websocket": counters.websocket_packets},
    )
    yield _counted(
        "gridnode_relay_forwarded_bytes",
        "Bytes forwarded, by what leads to their receiver.",
        "by",
        {"udp": counters.udp_bytes, "websocket": counters.websocket_bytes},
    )
    yield _counted(
        "gridnode_relay_dropped_packets",
        "Packets that were not forwarded, by the reason.",
        "reason",
        {
            "node_rate": counters.dropped_node_rate,
            "total_rate": counters.dropped_total_rate,
            "stranger": counters.dropped_stranger,
            "absent": counters.dropped_absent,
            "slow_reader": counters.dropped_slow_reader,
        },
    )


class _RelayCollector(Collector):
    def __init__(self, counters: RelayCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        return relay_metrics(self._counters)


def _counted(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
