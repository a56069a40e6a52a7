"""Names of models as Ollama has them: a name and a tag."""

from __future__ import annotations

from collections.abc import Sequence

from gridnode.control.dialect import names
from gridnode.control.schema import ModelStatus
from gridnode.errors import ModelUnknown

_LATEST = ":latest"


def shown_name(model: ModelStatus) -> str:
    """Return how clients see `model`: they expect a tag, and add `:latest` where there is none."""
    return model.name if ":" in model.name else model.name + _LATEST


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
    known = ", ".join(shown_name(model) for model in models) or "none yet"
    raise ModelUnknown(f"model {name[:200]!r} not found: nobody in the swarm serves it; served now: {known}")
