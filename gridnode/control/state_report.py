"""The state of the swarm in the words of Petals' health monitor, for programs that read it there. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gridnode.control.served_relay import ServedRelay
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus, ServingStatus
from gridnode.net.carrier import RELAYED


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What one server serves, and how fast."""

    state: str
    start_block: int
    end_block: int
    public_name: str
    version: str
    throughput: float
    """Tokens per second through its span, as it measured."""

    inference_rps: float
    """Tokens per second through one of its blocks."""

    network_rps: float | None = None
    forward_rps: float | None = None
    torch_dtype: str | None = None
    quant_type: str
    adapters: tuple[str, ...] = ()
    using_relay: bool | None
    cache_tokens_left: int
    cache_tokens_total: int
    sessions: int
    next_pings: dict[str, float]
    """Round-trip times in seconds that it announced, by peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpan:
    """The blocks `[start, end)` of one server."""

    peer_id: str
    start: int
    end: int
    server_info: ServerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """One server of one model."""

    peer_id: str
    short_peer_id: str
    state: str
    show_public_name: bool
    span: ServerSpan
    ping_to_me: float | None
    """Round-trip time from the node that reports, in seconds."""

    path: str
    address: str
    """Empty if the contributor does not publish it."""

    cache_tokens_left_per_block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model."""

    name: str
    short_name: str
    repository: str | None
    """Page of the model, if its name is that of one on the Hub."""

    manifest: str
    num_blocks: int
    state: Literal["healthy", "broken"]
    """`healthy` if every block is served by an online node."""

    blocks_online_min: int
    missing: tuple[tuple[int, int], ...]
    """Half-open ranges of blocks that nobody serves."""

    server_rows: tuple[ServerRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachabilityIssue:
    """A peer that announces itself and cannot be reached."""

    peer_id: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """Answer of `GET /api/v1/state`."""

    swarm: str
    version: str
    top_contributors: dict[str, int]
    """Blocks held by online nodes, by public name; the most first."""

    model_reports: tuple[ModelReport, ...]
    reachability_issues: tuple[ReachabilityIssue, ...]
    last_updated: float
    """Seconds since 1970: this state is never older than the answer."""

    update_period: float = 0.0
    served_relay: ServedRelay | None = None
    """The relay that the reporting node is for others, if it is one; Petals has no such thing."""


def report_state(status: NodeStatus, *, now: float) -> StateReport:
    """Return the report of what a node knows.

    Args:
        now: Seconds since 1970.
    """
    blocks: Counter[str] = Counter()
    rows: defaultdict[str, list[ServerRow]] = defaultdict(list)
    for peer in status.peers:
        if peer.serving:
            rows[peer.serving.manifest].append(_row(peer, peer.serving))
        if peer.public_name and peer.state == "online" and peer.serving:
            blocks[peer.public_name] += peer.serving.end - peer.serving.start
    return StateReport(
        swarm=status.swarm,
        version=status.version,
        top_contributors=dict(blocks.most_common()),
        model_reports=tuple(_model(model, rows[model.manifest]) for model in status.models),
        reachability_issues=tuple(
            ReachabilityIssue(peer_id=peer.peer_id, err=peer.problem or "no link to it works")
            for peer in status.peers
            if peer.state == "unreachable"
        ),
        last_updated=now,
        served_relay=status.served_relay,
    )


def _model(model: ModelStatus, rows: Sequence[ServerRow]) -> ModelReport:
    is_from_hub = model.name.count("/") == 1 and not model.name.startswith((".", "/"))
    return ModelReport(
        name=model.name,
        short_name=model.name.rpartition("/")[2],
        repository=f"https://huggingface.co/{model.name}" if is_from_hub else None,
        manifest=model.manifest,
        num_blocks=model.num_blocks,
        state="broken" if model.gaps else "healthy",
        blocks_online_min=model.min_replicas,
        missing=model.gaps,
        server_rows=tuple(rows),
    )


def _row(peer: PeerStatus, serving: ServingStatus) -> ServerRow:
    num_blocks = serving.end - serving.start
    return ServerRow(
        peer_id=peer.peer_id,
        short_peer_id=peer.short,
        state=peer.state,
        show_public_name=bool(peer.public_name),
        span=ServerSpan(
            peer_id=peer.peer_id,
            start=serving.start,
            end=serving.end,
            server_info=_info(peer, serving),
        ),
        ping_to_me=peer.rtt_s,
        path=peer.path,
        address=peer.address,
        cache_tokens_left_per_block=serving.free_cache_tokens // (2 * num_blocks),
    )


def _info(peer: PeerStatus, serving: ServingStatus) -> ServerInfo:
    return ServerInfo(
        state=peer.state,
        start_block=serving.start,
        end_block=serving.end,
        public_name=peer.public_name,
        version=peer.version,
        throughput=serving.decode_tokens_per_s,
        inference_rps=serving.decode_tokens_per_s * (serving.end - serving.start),
        quant_type=serving.quantization,
        using_relay=None if peer.path == "none" else peer.path in RELAYED,
        cache_tokens_left=serving.free_cache_tokens,
        cache_tokens_total=serving.total_cache_tokens,
        sessions=serving.open_sessions,
        next_pings={link.peer_id: link.rtt_s for link in peer.links},
    )
