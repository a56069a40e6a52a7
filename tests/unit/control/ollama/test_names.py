from __future__ import annotations

from dataclasses import replace

import pytest
from fake_node import STATUS

from gridnode.control.ollama.names import find_model, shown_name
from gridnode.errors import ModelUnknown

TINY = replace(STATUS.models[0], name="org/tiny")
OTHER = replace(TINY, name="org/other", manifest="a" * 64)
TWIN = replace(TINY, manifest="b" * 64)


def test_a_model_is_found_by_each_of_its_names() -> None:
    for name in ("org/tiny", "org/tiny:latest", "tiny", "tiny:latest", "f" * 12, ("f" * 12) + ":latest"):
        assert find_model((OTHER, TINY), name) == TINY


def test_every_shown_name_finds_its_model() -> None:
    models = (TINY, OTHER, TWIN)
    shown = [shown_name(model, models) for model in models]
    assert shown == ["ffffffffffff:latest", "org/other:latest", "bbbbbbbbbbbb:latest"]
    assert [find_model(models, name) for name in shown] == list(models)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ModelUnknown, match=r"'huge' not found.*org/tiny:latest"):
        find_model((TINY,), "huge")
