"""What the panels of `gridnode top` say about a node, a model, a peer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from gridnode.commands import up_command
from gridnode.control.missing_blocks import missing_blocks
from gridnode.control.readiness import describe_engine, describe_pause
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus, SessionStatus
from gridnode.units import format_bytes, format_seconds
from gridnode_dashboard.block_ruler import model_ruler, state_cell
from gridnode_dashboard.contributors import Contributor
from gridnode_dashboard.formatting import (
    bars,
    format_context,
    format_milliseconds,
    format_tokens,
    meter,
    plain,
    short_name,
)
from gridnode_dashboard.node_history import Sample, leased_tokens

LABEL_WIDTH = 9
FIGURE_WIDTH = 11
MAX_SHARE_CELLS = 6


def header_text(status: NodeStatus, width: int) -> Text:
    """Return the first line: this node at the left, the swarm at the right."""
    shape, colour = state_cell(status.state)
    name = f" {short_name(status.public_name)}" if status.public_name else ""
    left = Text.assemble(
        (f"{shape} ", colour),
        (plain(status.short) + name, "bold"),
        f" {plain(status.state)}, up {_age(status.uptime_s)}",
    )
    online = sum(peer.state == "online" for peer in status.peers)
    right = f"swarm {short_name(status.swarm)} · {online} of {len(status.peers)} nodes online"
    left.truncate(max(0, width - len(right) - 2), overflow="ellipsis", pad=True)
    return Text.assemble(left, "  ", right, no_wrap=True, end="")


def models_text(status: NodeStatus, shown: Sequence[PeerStatus], width: int) -> Text:
    """Return all models with their rulers; only `shown` nodes have a row."""
    if not status.models:
        return Text(f"No model is served yet: {up_command('PATH_OR_HUB_ID')}")
    return Text("\n\n").join(_model_text(model, status, shown, width) for model in status.models)


def _model_text(model: ModelStatus, status: NodeStatus, shown: Sequence[PeerStatus], width: int) -> Text:
    context = f", context {format_tokens(model.context_tokens)}" if model.context_tokens else ""
    text = Text.assemble((short_name(model.name), "bold"), f"  {model.num_blocks} blocks{context}\n")
    text.append_text(model_ruler(model, status.peers, width, shown=shown)).append("\n")
    if model.route:
        return text.append(f"route {plain(model.route)}")
    missing = missing_blocks(model, status)
    if not missing:
        return text.append("no route yet: the nodes that will serve the rest are loading", "yellow")
    command = up_command(model.name, blocks=str(missing[0]), join=status.join_address)
    blocks = ", ".join(map(str, missing))
    return text.append(f"nobody serves blocks {blocks}; on another computer:\n{command}", "red")


def node_text(status: NodeStatus, samples: Sequence[Sample], width: int) -> Text:
    """Return what the node here is doing, and what it did in the last minutes."""
    engine = status.engine
    me = next((peer for peer in status.peers if peer.is_self), None)
    restarts = f", {engine.restarts} restarts" if engine.restarts else ""
    kind = ", ".join(filter(None, (engine.executor, engine.dtype)))
    lines = [
        _fact("node", f"{plain(status.short)} {short_name(status.public_name)}".rstrip()),
        _fact("version", f"{plain(status.version)}, process {status.pid}"),
        _fact("listen", plain(status.listen)),
        _fact("serves", _serving(me)),
        _fact("engine", f"{plain(describe_engine(engine))}{restarts}"),
    ]
    if status.pause is not None:
        lines.append(_fact("now", plain(describe_pause(status.pause))))
    if engine.pid:
        lines.append(_fact("worker", f"process {engine.pid}, {format_bytes(engine.resident_bytes)}, {kind}"))
    if status.total_cache_tokens:
        used, total = leased_tokens(status), status.total_cache_tokens
        bar = meter(used, total, max(0, min(24, width - LABEL_WIDTH - 24)))
        lines.append(Text.assemble(_fact("cache", ""), bar, f" {format_context(used, total)} leased"))
    lines += [Text(""), Text("one bar a second, newest at the right", style="dim")]
    lines += _charts(status, samples, width)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _fact(label: str, value: str) -> Text:
    return Text.assemble((label.ljust(LABEL_WIDTH), "dim"), value)


def _serving(peer: PeerStatus | None) -> str:
    if peer is None or peer.serving is None:
        return "nothing"
    one = peer.serving
    ends = [name for name, has in (("embeddings", one.has_embeddings), ("head", one.has_head)) if has]
    parts = [f"{one.start}:{one.end} of {one.num_blocks}", plain(one.quantization), *ends]
    return f"{short_name(one.model)}  {', '.join(parts)}"


def _charts(status: NodeStatus, samples: Sequence[Sample], width: int) -> Iterable[Text]:
    answers = [sample.answer_tokens_per_s for sample in samples]
    prompts = [sample.prompt_tokens_per_s for sample in samples]
    leased = [float(sample.leased_tokens) for sample in samples]
    sessions = [float(sample.open_sessions) for sample in samples]
    yield _chart("answers", answers, max(answers, default=0.0), "t/s", width)
    yield _chart("prompts", prompts, max(prompts, default=0.0), "t/s", width)
    yield _chart("leased", leased, float(status.total_cache_tokens), "tok", width)
    yield _chart("sessions", sessions, max(sessions, default=0.0), "", width)


def _chart(label: str, values: Sequence[float], top: float, unit: str, width: int) -> Text:
    now = values[-1] if values else 0.0
    figure = f"{now:.1f}" if unit == "t/s" else format_tokens(int(now))
    room = max(0, width - LABEL_WIDTH - FIGURE_WIDTH)
    return Text.assemble(
        (label.ljust(LABEL_WIDTH), "dim"),
        f"{figure} {unit}".strip().rjust(FIGURE_WIDTH - 2),
        "  ",
        (bars(values, top, room), "cyan"),
    )


SESSION_COLUMNS = ("SESSION", "FROM", "BLOCKS", "TOKENS", "AGE", "IDLE")


def session_cells(session: SessionStatus) -> tuple[Text, ...]:
    """Return the row of a session."""
    return (
        Text(plain(session.short)),
        Text(plain(session.client)),
        Text(f"{session.start}:{session.end}"),
        Text(format_context(session.position, session.max_tokens)),
        Text(_age(session.age_s)),
        Text(_age(session.idle_s)),
    )


def _age(duration_s: float) -> str:
    return format_seconds(int(duration_s)) if duration_s >= 1 else "0 s"


CONTRIBUTOR_COLUMNS = ("NAME", "BLOCKS", "SHARE", "NODES", "T/S")


def contributor_cells(one: Contributor, all_blocks: int) -> tuple[Text, ...]:
    """Return the row of a contributor."""
    share = one.num_blocks / all_blocks if all_blocks else 0.0
    bar = "█" * round(share * MAX_SHARE_CELLS)
    return (
        Text(("*" if one.is_self else " ") + (short_name(one.name) or "(no name)")),
        Text(str(one.num_blocks)),
        Text.assemble((bar.ljust(MAX_SHARE_CELLS, "·"), "green"), f" {share:.0%}"),
        Text(str(one.num_nodes)),
        Text(f"{one.decode_tokens_per_s:.0f}"),
    )


def peer_text(peer: PeerStatus, peers: Sequence[PeerStatus]) -> Text:
    """Return everything that is known of one node."""
    serving = peer.serving
    names = {one.peer_id: plain(one.short) for one in peers}
    lines = [
        _fact("node", plain(peer.peer_id)),
        _fact("name", short_name(peer.public_name) or "-"),
        _fact("state", f"{plain(peer.state)}{', this node' if peer.is_self else ''}"),
        *([_fact("because", plain(peer.pause_reason))] if peer.pause_reason else []),
        _fact("version", plain(peer.version)),
        _fact("address", f"{plain(peer.address) or '-'}"),
        _fact("link", f"{plain(peer.path)}, {format_milliseconds(peer.rtt_s)} ms there and back"),
    ]
    if serving:
        cache = format_context(serving.free_cache_tokens, serving.total_cache_tokens)
        lines += [
            _fact("serves", _serving(peer)),
            _fact("weights", plain(serving.manifest[:16])),
            _fact("speed", f"{serving.decode_tokens_per_s:.1f} t/s through its blocks"),
            _fact(
                "cache", f"{cache} tokens free, {format_tokens(serving.max_session_tokens)} a session at most"
            ),
            _fact("sessions", str(serving.open_sessions)),
        ]
    for link in peer.links:
        other = names.get(link.peer_id, plain(link.peer_id)[:8])
        lines.append(_fact("sees", f"{other} at {format_milliseconds(link.rtt_s)} ms"))
    return Text("\n").join(lines)
