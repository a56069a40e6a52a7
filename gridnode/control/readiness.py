"""Whether a node does what it is there for."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.control.status_schema import EngineStatus, NodeStatus, PauseStatus
from gridnode.units import format_seconds


@dataclass(frozen=True, slots=True)
class Readiness:
    """Answer of `GET /ready`."""

    ready: bool
    reason: str
    """Why, for people."""


def readiness(status: NodeStatus) -> Readiness:
    """Return whether the node serves its blocks or, if it has none, can answer through others."""
    if status.pause is not None and status.state in ("leaving", "paused"):
        return Readiness(False, describe_pause(status.pause))
    if status.state in ("leaving", "offline"):
        return Readiness(False, "the node is leaving the swarm")
    if status.engine.state == "none" and status.state == "joining":
        return Readiness(False, "the node chooses its blocks")
    if status.engine.state == "none":
        return _readiness_through_others(status)
    if status.engine.state != "ready" or status.state != "online":
        return Readiness(False, describe_engine(status.engine))
    return Readiness(True, f"serving {status.engine.loaded_blocks} blocks")


def _readiness_through_others(status: NodeStatus) -> Readiness:
    routed = [model.name for model in status.models if model.route]
    if routed:
        return Readiness(True, f"answering through the swarm: {', '.join(routed)}")
    if status.models:
        return Readiness(False, "no model of the swarm has a route yet")
    return Readiness(False, "nobody in the swarm serves a model yet")


def describe_pause(pause: PauseStatus) -> str:
    """Return why the node serves nothing, and until when, in one sentence."""
    until = "until that changes"
    if pause.remaining_s is not None:
        until = f"for {format_seconds(pause.remaining_s)} more, or until 'gridnode resume'"
    elif pause.is_owners:
        until = "until 'gridnode resume'"
    return f"paused {until}: {pause.reason}"


def describe_engine(engine: EngineStatus) -> str:
    """Return what the engine worker is doing, in one sentence."""
    if engine.state == "loading" and engine.wanted_blocks:
        return f"loading blocks, {engine.loaded_blocks} of {engine.wanted_blocks} done"
    doing = {
        "none": "no model to serve",
        "starting": "the engine worker is starting",
        "loading": "the engine worker is loading",
        "ready": "the engine worker is ready",
        "restarting": "the engine worker died and is being restarted",
        "failed": "the engine worker failed",
        "stopped": "the engine worker is stopped",
    }[engine.state]
    return f"{doing}: {engine.detail}" if engine.detail else doing
