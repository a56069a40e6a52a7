from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gridnode.core.ids import ModelId
from gridnode.node.model_access import ModelAccess

LLAMA = ModelId("lab/llama", "a" * 64)
QWEN = ModelId("lab/qwen", "b" * 64)


def models(*known: ModelId) -> ModelAccess:
    """Return access to a swarm with models of four blocks."""
    view = SimpleNamespace(swarm=SimpleNamespace(models=lambda: dict.fromkeys(known, 4)))
    nothing = cast(Any, None)
    return ModelAccess(
        nothing,
        pacing=nothing,
        view=lambda: cast(Any, view),
        wait_change=nothing,
        codec=nothing,
        on_unknown=nothing,
        loading=nothing,
    )


def test_all_names_of_a_model_mean_the_same() -> None:
    names = ("lab/llama", "llama", "aaaaaa", "a" * 64)
    assert [models(LLAMA, QWEN).named(name) for name in names] == [[(LLAMA, 4)]] * 4
    assert models(LLAMA).named("") == [(LLAMA, 4)]


def test_a_name_may_mean_several_models_or_none() -> None:
    assert models(LLAMA, QWEN).named("") == [(LLAMA, 4), (QWEN, 4)]
    assert models(LLAMA, QWEN).named("aaaaa") == []  # too short for a hash
