"""What `gridnode up` tells people about its node: first lines, then what changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.cli.showing import name_text, printable
from gridnode.commands import up_command
from gridnode.config import DEFAULT_API
from gridnode.control.missing_blocks import missing_blocks
from gridnode.control.readiness import describe_engine, describe_pause, readiness
from gridnode.control.status_schema import ModelStatus, NodeStatus, PeerStatus
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorstep:
    """What a person must know to use a node."""

    api: Address
    """The door, as this computer reaches it."""

    api_elsewhere: tuple[Address, ...] = ()
    """The door, as other computers reach it; empty if they do not."""

    home_needs_key: bool = False
    """Whether this computer needs a key, too."""

    first_key: str = ""
    """A key that was made just now and is shown nowhere again."""

    reachable: tuple[Address, ...]
    """Where others reach it."""

    model: str
    """What this node was told to serve; may be empty."""

    def join_command(self, model: str, blocks: str = "") -> str:
        """Return what to run elsewhere to join this node's swarm."""
        return up_command(model, blocks=blocks, join="".join(map(str, self.reachable[:1])))

    def ask_command(self) -> str:
        """Return how to ask this node."""
        api = "" if self.api == DEFAULT_API else f"--api {self.api} "
        return f'gridnode run {api}"What is the capital of France?"'


def banner(status: NodeStatus, doorstep: Doorstep) -> list[str]:
    """Return the first lines, before anything is loaded."""
    name = f" ({printable(status.public_name)})" if status.public_name else ""
    is_local = all(address.host in ("127.0.0.1", "::1") for address in doorstep.reachable)
    private = " (private)" if status.swarm_is_private else ""
    lines = [
        f"gridnode {status.version}  node {status.short}{name}  swarm {printable(status.swarm)}{private}",
        *_door_lines(doorstep),
        f"  listen   {status.listen}  ("
        + (
            "this computer only)"
            if is_local
            else "who holds an invitation may join)"
            if status.swarm_is_private
            else "who is on this network and knows the swarm's name may join)"
        ),
        "  join     gridnode invite  (and 'gridnode join -' on the other computer)"
        if status.swarm_is_private
        else f"  join     {doorstep.join_command(doorstep.model)}",
    ]
    if not doorstep.model:
        lines.append("  serving  nothing: no --model was given; questions go to the swarm")
    return lines


def _door_lines(doorstep: Doorstep) -> list[str]:
    home = f"http://{doorstep.api}"
    key = "with a key" if doorstep.home_needs_key else "no key needed"
    if doorstep.api_elsewhere:
        url = f"http://{doorstep.api_elsewhere[0]}"
        lines = [f"  api      {url}  (with a key, not encrypted; on this computer {home}, {key})"]
    else:
        url = home
        lines = [f"  api      {url}  (this computer only, {key})"]
    if doorstep.first_key:
        lines += [
            f"  key      {doorstep.first_key}  (shown this once; 'gridnode keys' makes more)",
            f"  try      curl -H 'Authorization: Bearer {doorstep.first_key}' {url}/api/v1/status",
        ]
    return [*lines, f"  browse   {url}/  (the swarm, live) and {url}/chat"]


def news(before: NodeStatus | None, after: NodeStatus, doorstep: Doorstep) -> list[str]:
    """Return what to tell people about the change from one status to the next."""
    return [
        *_pause_news(before, after),
        *_engine_news(before, after),
        *_peer_news(before, after),
        *_model_news(before, after, doorstep),
    ]


def _pause_news(before: NodeStatus | None, after: NodeStatus) -> list[str]:
    old = before.pause.reason if before and before.pause else ""
    if after.pause is None:
        return ["  resumed  it serves again"] if old else []
    return [] if after.pause.reason == old else [f"  resting  {printable(describe_pause(after.pause))}"]


def _engine_news(before: NodeStatus | None, after: NodeStatus) -> list[str]:
    old, new = before.engine.state if before else "none", after.engine.state
    if old == new:
        return []
    serving = after.peers[0].serving if after.peers and after.peers[0].is_self else None
    if new == "loading" and serving:
        return [f"  loading  blocks {serving.start}:{serving.end} of {serving.num_blocks} of {serving.model}"]
    if new == "ready" and serving:
        kind = ", ".join(filter(None, (serving.quantization, after.engine.executor, after.engine.dtype)))
        size = format_bytes(after.engine.resident_bytes)
        return [
            f"  ready    blocks {serving.start}:{serving.end} of {serving.num_blocks} of {serving.model} "
            f"({kind}, {size}) after {format_seconds(after.uptime_s)}"
        ]
    if new in ("restarting", "failed"):
        return [f"  trouble  {describe_engine(after.engine)}"]
    return []


def _peer_news(before: NodeStatus | None, after: NodeStatus) -> list[str]:
    old = {peer.peer_id: peer for peer in before.peers} if before else {}
    new = {peer.peer_id: peer for peer in after.peers}
    lines = [f"  peer     {_describe(peer)} is gone" for key, peer in old.items() if key not in new]
    for key, peer in new.items():
        if peer.is_self or (key in old and old[key].state == peer.state):
            continue
        blocks = f", blocks {peer.serving.start}:{peer.serving.end}" if peer.serving else ""
        lines.append(f"  peer     {_describe(peer)} is {peer.state}{blocks}")
    return lines


def _describe(peer: PeerStatus) -> str:
    return f"{peer.short} ({name_text(peer.public_name).plain})" if peer.public_name else peer.short


def _model_news(before: NodeStatus | None, after: NodeStatus, doorstep: Doorstep) -> list[str]:
    if not _is_settled(after, doorstep):
        return []  # gaps are no news while this node is about to fill one
    told = before if before and _is_settled(before, doorstep) else None
    old = {model.manifest: _outlook(model, told) for model in told.models} if told else {}
    lines = []
    for model in after.models:
        outlook = _outlook(model, after)
        if model.manifest not in old or old[model.manifest] != outlook:
            lines += _model_lines(model, outlook, doorstep)
    return lines


def _is_settled(status: NodeStatus, doorstep: Doorstep) -> bool:
    """Return whether the node serves what it was told to, or was told to serve nothing."""
    return status.engine.state == "ready" or (status.engine.state == "none" and not doorstep.model)


def _outlook(model: ModelStatus, status: NodeStatus) -> tuple[Span, ...] | None:
    """Return the blocks that somebody should come and serve, or None if the model answers."""
    return None if model.route else missing_blocks(model, status)


def _model_lines(model: ModelStatus, missing: tuple[Span, ...] | None, doorstep: Doorstep) -> list[str]:
    name = printable(model.name)
    if missing is None:
        return [
            f"  answers  {name} by {model.route}",
            f"  chat     http://{doorstep.api}/chat",
            f"  next     {doorstep.ask_command()}",
        ]
    if not missing:
        return [f"  waiting  others are loading the rest of {name}"]
    return [
        f"  waiting  blocks {', '.join(map(str, missing))} of {name} are served by nobody yet",
        f"  next     {doorstep.join_command(doorstep.model or model.name, str(missing[0]))}",
    ]


def spinner_text(status: NodeStatus) -> str:
    """Return what a person waits for, or nothing."""
    return "" if readiness(status).ready or status.engine.state == "none" else describe_engine(status.engine)
