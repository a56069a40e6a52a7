"""The models of the swarm, as `/api/tags`, `/api/show` and `/api/ps` tell them.

Clients read more from these than chat needs: VS Code takes the length of the context from
`model_info`, under the name of the architecture, and offers a model to its agent if it can call tools.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gridnode.control.ollama.names import shown_name
from gridnode.control.status_schema import ModelStatus, NodeStatus

_ARCHITECTURE = "gridnode"
# What a swarm serves is not unloaded after some minutes; Ollama says "forever" by a date like this.
_FOREVER = "2318-01-01T00:00:00Z"


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is made of, as far as the swarm tells."""

    quantization_level: str
    """Of every node that serves a part of it."""

    parent_model: str = ""
    format: str = _ARCHITECTURE
    family: str = _ARCHITECTURE
    families: tuple[str, ...] = (_ARCHITECTURE,)
    parameter_size: str = ""


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model in a list."""

    name: str
    model: str
    digest: str
    """The manifest hash."""

    details: ModelDetails
    size: int = 0
    """Not told: the weights lie on many machines."""

    modified_at: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    size_vram: int | UnsetType = UNSET
    context_length: int | UnsetType = UNSET
    """Longest session that the present route takes, in tokens."""


class ModelEntries(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `/api/tags` and `/api/ps`."""

    models: tuple[ModelEntry, ...]


class ShownModel(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `/api/show`."""

    modelfile: str
    modified_at: str
    details: ModelDetails
    model_info: dict[str, Any]
    # Tools are told to every model: by its chat template, or by words before the conversation. That it
    # makes vectors is not told: there, a model that does so does nothing else.
    capabilities: tuple[str, ...] = ("completion", "tools")
    parameters: str = ""
    template: str = ""
    license: str = ""


def tags(status: NodeStatus, *, now: datetime) -> ModelEntries:
    """Return every model that somebody in the swarm serves."""
    since = _since(status, now)
    return ModelEntries(models=tuple(_entry(model, status, modified_at=since) for model in status.models))


def running(status: NodeStatus) -> ModelEntries:
    """Return the models that answer at once: those with a route."""
    return ModelEntries(
        models=tuple(
            _entry(model, status, expires_at=_FOREVER, size_vram=0, context_length=model.context_tokens)
            for model in status.models
            if model.route
        )
    )


def show(model: ModelStatus, status: NodeStatus, *, now: datetime) -> ShownModel:
    """Return what is known of one model."""
    info: dict[str, Any] = {
        "general.architecture": _ARCHITECTURE,
        "general.basename": model.name,
        f"{_ARCHITECTURE}.block_count": model.num_blocks,
    }
    if model.context_tokens:
        info[f"{_ARCHITECTURE}.context_length"] = model.context_tokens
    return ShownModel(
        modelfile=f"FROM {model.name}\n",
        modified_at=_since(status, now),
        details=_details(model, status),
        model_info=info,
    )


def _entry(model: ModelStatus, status: NodeStatus, **more: Any) -> ModelEntry:
    name = shown_name(model, status.models)
    return ModelEntry(name=name, model=name, digest=model.manifest, details=_details(model, status), **more)


def _details(model: ModelStatus, status: NodeStatus) -> ModelDetails:
    served = {
        peer.serving.quantization
        for peer in status.peers
        if peer.serving is not None and peer.serving.manifest == model.manifest
    }
    return ModelDetails(quantization_level=", ".join(sorted(served)))


def _since(status: NodeStatus, now: datetime) -> str:
    """Return the start of this node: when a model came to the swarm is not known."""
    since = (now - timedelta(seconds=status.uptime_s)).astimezone(UTC)
    return since.isoformat(timespec="seconds").replace("+00:00", "Z")
