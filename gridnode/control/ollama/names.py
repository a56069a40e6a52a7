"""Names of models as Ollama has them: a name and a tag."""

from __future__ import annotations

from collections.abc import Sequence

from gridnode.control.dialect import names
from gridnode.control.status_schema import ModelStatus
from gridnode.errors import ModelUnknown

_LATEST = ":latest"
_MANIFEST_START = 12


def shown_name(model: ModelStatus, models: Sequence[ModelStatus]) -> str:
    """Return how clients see `model` among `models`: they expect a tag, and add `:latest` themselves.

    Models of the same name are told apart by the start of their manifest hash.
    """
    is_alone = sum(other.name == model.name for other in models) == 1
    name = model.name if is_alone else model.manifest[:_MANIFEST_START]
    return name if ":" in name else name + _LATEST


def swarm_name(name: str) -> str:
    """Return the name that the swarm knows for what a client calls `name`."""
    return name.removesuffix(_LATEST)


def find_model(models: Sequence[ModelStatus], name: str) -> ModelStatus:
    """Return the model that a client calls `name`.

    Raises:
        ModelUnknown: there is none.
    """
    for model in models:
        if names(model, swarm_name(name)):
            return model
    known = ", ".join(shown_name(model, models) for model in models) or "none yet"
    raise ModelUnknown(f"model {name[:200]!r} not found: nobody in the swarm serves it; served now: {known}")
