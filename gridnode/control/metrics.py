"""What a node tells Prometheus: its own figures, and those of the swarm as it sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import quantiles

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gridnode.control.interface import NodeControl
from gridnode.control.relay_metrics import relay_metrics
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus, ServingStatus

# Each becomes a time series, and strangers choose the words: models and versions beyond these are left out.
MAX_MODELS = 50
MAX_VERSIONS = 20
MAX_LABEL_CHARACTERS = 100
PERCENTILES = (25, 50, 75, 90, 95)
STATES = ("online", "joining", "paused", "leaving", "unreachable")


def render_metrics(control: NodeControl) -> bytes:
    """Return the figures in the text format of Prometheus, version 0.0.4, each with HELP and TYPE."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(control.status()))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _StatusCollector(Collector):
    def __init__(self, status: NodeStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield from _own(status)
        yield from _peers(status.peers)
        yield from _models(status)
        if status.served_relay is not None:
            yield from relay_metrics(status.served_relay.counters)


def _own(status: NodeStatus) -> Iterator[Metric]:
    info = InfoMetricFamily("gridnode", "This node.")
    labels = {"version": status.version, "swarm": _label(status.swarm), "peer_id": status.peer_id}
    info.add_metric([], labels)
    yield info
    yield GaugeMetricFamily("gridnode_uptime_seconds", "Time since the node started.", status.uptime_s)
    yield GaugeMetricFamily(
        "gridnode_sessions", "Sessions in which this node is a hop.", status.open_sessions
    )
    yield GaugeMetricFamily(
        "gridnode_answers", "Answers asked for at this node that are not finished.", status.running_answers
    )
    yield GaugeMetricFamily(
        "gridnode_answers_waiting", "Answers in line until the swarm has room.", status.waiting_answers
    )
    yield GaugeMetricFamily(
        "gridnode_paused", "1 if this node serves nothing for now, else 0.", int(status.pause is not None)
    )
    yield GaugeMetricFamily(
        "gridnode_streams", "Streams that are open with other nodes and with itself.", status.open_streams
    )
    yield GaugeMetricFamily(
        "gridnode_tasks", "Tasks of the event loop: none may be left by what is over.", status.tasks
    )
    engine = status.engine
    yield CounterMetricFamily(
        "gridnode_engine_restarts",
        "Times that the engine worker died and was started again.",
        value=engine.restarts,
    )
    yield GaugeMetricFamily(
        "gridnode_engine_ready", "1 if the engine worker computes, else 0.", int(engine.state == "ready")
    )
    yield GaugeMetricFamily(
        "gridnode_engine_resident_bytes", "Resident memory of the engine worker.", engine.resident_bytes
    )
    yield GaugeMetricFamily(
        "gridnode_cache_tokens", "Tokens of KV cache of this node.", status.total_cache_tokens
    )
    home = next((peer.serving for peer in status.peers if peer.is_self), None)
    yield GaugeMetricFamily(
        "gridnode_cache_free_tokens",
        "Tokens of KV cache of this node that no session has leased.",
        home.free_cache_tokens if home else 0,
    )
    computed = CounterMetricFamily(
        "gridnode_computed_tokens", "Tokens that went through the blocks of this node.", labels=["kind"]
    )
    computed.add_metric(["prompt"], status.computed_prompt_tokens)
    computed.add_metric(["answer"], status.computed_answer_tokens)
    yield computed


def _peers(peers: tuple[PeerStatus, ...]) -> Iterator[Metric]:
    yield _counted(
        "gridnode_nodes", "Nodes of the swarm by state.", "state", [p.state for p in peers], STATES
    )
    others = [peer for peer in peers if not peer.is_self]
    yield _counted(
        "gridnode_links", "Other nodes by how packets reach them.", "path", [p.path for p in others]
    )
    versions = Counter(_label(peer.version) for peer in peers)
    yield _family(
        "gridnode_node_versions", "Nodes of the swarm by version.", "version", versions, MAX_VERSIONS
    )
    rtts = GaugeMetricFamily(
        "gridnode_link_rtt_seconds", "Percentiles of the round-trip times from this node.", labels=["pct"]
    )
    measured = [peer.rtt_s for peer in others if peer.rtt_s is not None]
    if measured:
        cuts = quantiles(
            [*measured, measured[0]] if len(measured) == 1 else measured, n=100, method="inclusive"
        )
        for percentile in PERCENTILES:
            rtts.add_metric([str(percentile)], cuts[percentile - 1])
    yield rtts


def _models(status: NodeStatus) -> Iterator[Metric]:
    names = ["model", "manifest"]
    blocks = GaugeMetricFamily("gridnode_model_blocks", "Blocks of the model.", labels=names)
    least = GaugeMetricFamily(
        "gridnode_model_replicas_min", "Online nodes of the least served block.", labels=names
    )
    missing = GaugeMetricFamily(
        "gridnode_model_missing_blocks", "Blocks that no online node serves.", labels=names
    )
    nodes = GaugeMetricFamily(
        "gridnode_model_nodes", "Nodes of the model by state.", labels=[*names, "state"]
    )
    held = GaugeMetricFamily(
        "gridnode_model_served_blocks",
        "Blocks held, by the state of their nodes; several nodes count several times.",
        labels=[*names, "state"],
    )
    speed = GaugeMetricFamily(
        "gridnode_model_decode_tokens_per_second",
        "Tokens per second through one block of an online node: mean and least.",
        labels=[*names, "stat"],
    )
    for model in status.models[:MAX_MODELS]:
        key = [_label(model.name), model.manifest[:16]]
        blocks.add_metric(key, model.num_blocks)
        least.add_metric(key, model.min_replicas)
        missing.add_metric(key, sum(end - start for start, end in model.gaps))
        serving = _serving(model, status)
        for state in STATES:
            there = [s for peer, s in serving if peer.state == state]
            nodes.add_metric([*key, state], len(there))
            held.add_metric([*key, state], sum(s.end - s.start for s in there))
        speeds = [s.decode_tokens_per_s * (s.end - s.start) for p, s in serving if p.state == "online"]
        if speeds:
            speed.add_metric([*key, "mean"], sum(speeds) / len(speeds))
            speed.add_metric([*key, "min"], min(speeds))
    yield from (blocks, least, missing, nodes, held, speed)


def _serving(model: ModelStatus, status: NodeStatus) -> list[tuple[PeerStatus, ServingStatus]]:
    return [
        (peer, peer.serving)
        for peer in status.peers
        if peer.serving and peer.serving.manifest == model.manifest
    ]


def _counted(name: str, text: str, label: str, found: list[str], always: tuple[str, ...] = ()) -> Metric:
    counts = Counter(dict.fromkeys(always, 0))
    counts.update(map(_label, found))
    return _family(name, text, label, counts, MAX_VERSIONS)


def _family(name: str, text: str, label: str, counts: Counter[str], limit: int) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.most_common(limit):
        family.add_metric([value], count)
    return family


def _label(text: str) -> str:
    """Return a word of a stranger as it may stand in a label."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_LABEL_CHARACTERS])
