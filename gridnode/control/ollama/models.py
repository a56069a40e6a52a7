"""The models of the swarm, as `/api/tags`, `/api/show` and `/api/ps` tell them.

Clients read more from these than chat needs: VS Code takes the length of the context from
`model_info`, under the name of the architecture, and offers a model to its agent if it can call tools.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gridnode.control.ollama.names import shown_name
from gridnode.control.schema import ModelStatus, NodeStatus

Record = dict[str, Any]

_ARCHITECTURE = "gridnode"
# What a swarm serves is not unloaded after some minutes; Ollama says "forever" by a date like this.
_FOREVER = "2318-01-01T00:00:00Z"


def tags(status: NodeStatus, *, now: datetime) -> Record:
    """Return every model that somebody in the swarm serves."""
    since = _since(status, now)
    return {"models": [_entry(model, status) | {"modified_at": since} for model in status.models]}


def running(status: NodeStatus) -> Record:
    """Return the models that answer at once: those with a route."""
    return {
        "models": [
            _entry(model, status)
            | {"expires_at": _FOREVER, "size_vram": 0, "context_length": model.context_tokens}
            for model in status.models
            if model.route
        ]
    }


def show(model: ModelStatus, status: NodeStatus, *, now: datetime) -> Record:
    """Return what is known of one model."""
    info: Record = {
        "general.architecture": _ARCHITECTURE,
        "general.basename": model.name,
        f"{_ARCHITECTURE}.block_count": model.num_blocks,
    }
    if model.context_tokens:
        info[f"{_ARCHITECTURE}.context_length"] = model.context_tokens
    return {
        "modelfile": f"FROM {model.name}\n",
        "parameters": "",
        "template": "",
        "license": "",
        "modified_at": _since(status, now),
        "details": _details(model, status),
        "model_info": info,
        # Tools are told to every model: by its chat template, or by words before the conversation.
        "capabilities": ["completion", "tools"],
    }


def _entry(model: ModelStatus, status: NodeStatus) -> Record:
    name = shown_name(model)
    return {
        "name": name,
        "model": name,
        "size": 0,  # the weights lie on many machines
        "digest": model.manifest,
        "details": _details(model, status),
    }


def _details(model: ModelStatus, status: NodeStatus) -> Record:
    served = {
        peer.serving.quantization
        for peer in status.peers
        if peer.serving is not None and peer.serving.manifest == model.manifest
    }
    return {
        "parent_model": "",
        "format": _ARCHITECTURE,
        "family": _ARCHITECTURE,
        "families": [_ARCHITECTURE],
        "parameter_size": "",
        "quantization_level": ", ".join(sorted(served)),
    }


def _since(status: NodeStatus, now: datetime) -> str:
    """Return the start of this node: when a model came to the swarm is not known."""
    since = (now - timedelta(seconds=status.uptime_s)).astimezone(UTC)
    return since.isoformat(timespec="seconds").replace("+00:00", "Z")
