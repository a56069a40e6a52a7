"""The tables of `gridnode ps`. Pure."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gridnode.cli.showing import plain_table, printable
from gridnode.control.readiness import describe_engine
from gridnode.control.status_schema import EngineStatus, NodeStatus, ServingStatus
from gridnode.units import format_bytes, format_seconds


def ps_view(status: NodeStatus) -> RenderableType:
    """Return what is loaded, and then the open sessions."""
    serving = status.peers[0].serving if status.peers and status.peers[0].is_self else None
    if serving is None:
        what = describe_engine(status.engine) if status.engine.state != "none" else "nothing is loaded"
        return Text(f"{what}; 'gridnode up --model PATH_OR_HUB_ID' serves a model", style="yellow")
    parts: list[RenderableType] = [_engine(status, status.engine, serving)]
    if status.engine.state != "ready":
        parts.append(Text(describe_engine(status.engine), style="yellow"))
    if status.sessions:
        parts += [Text(""), _sessions(status)]
    return Group(*parts)


def _engine(status: NodeStatus, engine: EngineStatus, serving: ServingStatus) -> Table:
    kind = " ".join(filter(None, (engine.executor, engine.dtype))) or engine.state
    resident = f", {format_bytes(engine.resident_bytes)} of memory" if engine.resident_bytes else ""
    process = f", process {engine.pid}" if engine.pid else ""
    speed = f"{serving.decode_tokens_per_s:.0f} tokens/s through these blocks"
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in (
        ("model", printable(serving.model)),
        ("blocks", f"{serving.start}:{serving.end} of {serving.num_blocks}, {serving.quantization}"),
        ("engine", f"{kind}{resident}{process}"),
        ("cache", f"{serving.free_cache_tokens} of {status.total_cache_tokens} tokens free"),
        ("speed", speed if engine.state == "ready" else "not measured yet"),
        ("sessions", str(status.open_sessions)),
        ("up", format_seconds(status.uptime_s)),
    ):
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _sessions(status: NodeStatus) -> Table:
    table = plain_table("SESSION", "CLIENT", "BLOCKS", "TOKENS", "AGE", "IDLE")
    for session in status.sessions:
        table.add_row(
            session.short,
            printable(session.client),
            f"{session.start}:{session.end}",
            f"{session.position}/{session.max_tokens}",
            format_seconds(session.age_s),
            format_seconds(session.idle_s),
        )
    return table
