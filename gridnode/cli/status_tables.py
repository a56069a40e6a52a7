"""The tables of `gridnode status`: a node's status in, things to print out. Pure."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gridnode.cli.showing import milliseconds, name_text, plain_table, printable
from gridnode.commands import up_command
from gridnode.control.missing_blocks import missing_blocks
from gridnode.control.readiness import describe_engine, describe_pause
from gridnode.control.served_relay import ServedRelay, describe_losses, describe_traffic
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus, PortMappingStatus, RelayStatus


def status_view(status: NodeStatus) -> RenderableType:
    """Return everything that `gridnode status` shows."""
    parts: list[RenderableType] = [_peers(status), *pauses(status)]
    if status.pause is not None:
        parts.append(Text(printable(describe_pause(status.pause)), style="yellow"))
    elif status.engine.state not in ("none", "ready"):
        parts.append(Text(describe_engine(status.engine), style="yellow"))
    parts += map(_relay, status.relays)
    parts += _served_relay(status.served_relay) if status.served_relay else []
    if status.port_mapping is not None and (status.port_mapping.address or status.port_mapping.problem):
        parts.append(_router(status.port_mapping))
    return Group(*parts, *([Text("")] if status.models else []), models_view(status))


def models_view(status: NodeStatus) -> RenderableType:
    """Return one line per model of the swarm, and what to do about its gaps."""
    if not status.models:
        return _no_model(status)
    hints = [hint for model in status.models if (hint := gap_hint(model, status))]
    return Group(_models(status), *hints)


def _relay(relay: RelayStatus) -> Text:
    """Return a line about a relay; the trouble with it, if there is any."""
    if relay.path == "none":
        problem = relay.problem or "not registered yet"
        return Text(printable(f"relay {relay.place}: {problem}"), style="yellow")
    seen = f", sees this node at {relay.observed}" if relay.observed else ""
    return Text(printable(f"relay {relay.place}: {milliseconds(relay.rtt_s)} ms {relay.path}{seen}"))


def _served_relay(relay: ServedRelay) -> list[Text]:
    """Return a line about the relay that the node is for others, and one about what did not pass."""
    by = "" if relay.has_websockets else " by UDP alone"
    losses = describe_losses(relay.counters)
    return [
        Text(f"serves a relay at {relay.listen}{by}: {describe_traffic(relay.counters)}"),
        *([Text(f"  {losses}", style="yellow")] if losses else []),
    ]


def _router(mapping: PortMappingStatus) -> Text:
    """Return a line about the router; why it lets nobody in, if so."""
    if mapping.address:
        return Text(
            printable(f"router {mapping.router} lets others in at {mapping.address}, by {mapping.protocol}")
        )
    return Text(printable(f"nobody is let in from outside: {mapping.problem}"))


def _peers(status: NodeStatus) -> Table:
    table = plain_table("NODE", "STATE", "BLOCKS", "CACHE", "SPEED", "LINK", "NAME")
    for peer in status.peers:
        table.add_row(
            ("*" if peer.is_self else " ") + peer.short,
            peer.state,
            *_serving(peer, status),
            _link(peer),
            name_text(peer.public_name),
        )
    return table


def pauses(status: NodeStatus) -> list[Text]:
    """Return a line for each other node that pauses: why."""
    return [
        Text(f" {peer.short} pauses: {printable(peer.pause_reason)}", style="blue")
        for peer in status.peers
        if peer.pause_reason and not peer.is_self
    ]


def _serving(peer: PeerStatus, status: NodeStatus) -> tuple[str, str, str]:
    serving = peer.serving
    if serving is None:
        return "-", "-", "-"
    total = f"/{status.total_cache_tokens}" if peer.is_self else ""
    is_online = peer.state == "online"
    return (
        f"{serving.start}:{serving.end}",
        f"{serving.free_cache_tokens}{total} free" if is_online else "-",
        f"{serving.decode_tokens_per_s:.0f} t/s" if is_online else "-",
    )


def _link(peer: PeerStatus) -> str:
    if peer.is_self:
        return "-"
    rtt = f"{milliseconds(peer.rtt_s)} ms " if peer.rtt_s is not None else ""
    return rtt + peer.path


def _models(status: NodeStatus) -> Table:
    table = plain_table("MODEL", "BLOCKS", "COPIES", "CONTEXT", "ROUTE", folded=frozenset({"ROUTE"}))
    for model in status.models:
        gaps = ", ".join(f"{start}:{end}" for start, end in model.gaps)
        table.add_row(
            name_text(model.name),
            str(model.num_blocks),
            str(model.min_replicas),
            str(model.context_tokens) if model.route else "-",
            Text(_route(model))
            if model.route
            else Text(f"none: blocks {gaps or '?'} not served", style="red"),
        )
    return table


def _route(model: ModelStatus) -> str:
    speed = model.expected_tokens_per_s
    return f"{model.route}, about {speed:.{1 if speed < 10 else 0}f} t/s" if speed else model.route


def _no_model(status: NodeStatus) -> Text:
    command = up_command("PATH_OR_HUB_ID", join=status.join_address)
    return Text(f"No model yet. Serve one: {command}", style="yellow")


def gap_hint(model: ModelStatus, status: NodeStatus) -> Text | None:
    """Return what to run to fill the first gap of `model`, or None if nothing needs to be done."""
    missing = missing_blocks(model, status)
    if not missing:
        return None
    command = up_command(model.name, blocks=str(missing[0]), join=status.join_address)
    return Text(f"To fill the gap, on another computer: {command}", style="yellow")
