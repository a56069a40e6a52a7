"""The models of the swarm, as `GET /v1/models` lists them."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from gridnode.control.dialect import names
from gridnode.control.status_schema import ModelStatus, NodeStatus
from gridnode.errors import ModelUnknown


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    id: str
    """Its name; the start of its manifest hash, if several models have the same name."""

    object: Literal["model"] = "model"
    context_window: int
    """Longest session that the present route takes, in tokens; 0 while some blocks are served by nobody."""

    max_model_len: int
    """The same, by the name that other servers gave it."""

    gridnode: ModelStatus
    created: int = 0
    """Unknown: weights do not say when they were made."""

    owned_by: str = "gridnode"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/models`."""

    data: list[ModelObject]
    object: Literal["list"] = "list"


def list_models(status: NodeStatus) -> ModelList:
    """Return every model that somebody in the swarm serves a block of."""
    num_named = Counter(model.name for model in status.models)
    return ModelList(
        data=[
            ModelObject(
                id=model.name if num_named[model.name] == 1 else model.manifest[:12],
                context_window=model.context_tokens,
                max_model_len=model.context_tokens,
                gridnode=model,
            )
            for model in status.models
        ]
    )


def find_model(status: NodeStatus, name: str) -> ModelObject:
    """Return the model that `name` names.

    Raises:
        ModelUnknown: nobody serves it.
    """
    models = list_models(status).data
    for model in models:
        if name and names(model.gridnode, name):
            return model
    known = ", ".join(model.id for model in models) or "none yet"
    raise ModelUnknown(f"nobody in the swarm serves {name[:200]!r}; served now: {known}")
