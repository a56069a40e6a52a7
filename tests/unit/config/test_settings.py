"""Every key is described once, on `NodeConfig`."""

from __future__ import annotations

from dataclasses import fields

import pytest

from gridnode.config import NodeConfig
from gridnode.config.settings import nearest, settings


def test_every_field_is_a_key_with_words_of_its_own() -> None:
    assert {setting.field for setting in settings().values()} == {field.name for field in fields(NodeConfig)}
    assert all(len(setting.doc) > 10 for setting in settings().values())


def test_names_variables_and_flags_are_unique() -> None:
    for names in (
        [setting.name for setting in settings().values()],
        [setting.variable for setting in settings().values()],
        [setting.flag for setting in settings().values()],
    ):
        assert len(set(names)) == len(names)


def test_a_key_has_its_variable_its_flag_and_its_default() -> None:
    memory = settings()["limits.memory"]
    assert (memory.field, memory.variable, memory.flag) == (
        "memory_bytes",
        "GRIDNODE_LIMITS_MEMORY",
        "--memory",
    )
    assert memory.default is None
    assert memory.described_default == "3/4 of what is free at the start"
    assert settings()["serve.quantize"].described_default == "int8"


def test_every_default_can_be_written_and_read_again() -> None:
    for setting in settings().values():
        if setting.default is not None:
            assert setting.kind.read_toml(setting.kind.write_toml(setting.default)) == setting.default


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("serve.modle", "serve.model"),
        ("swarm.model", "serve.model"),
        ("model", "serve.model"),
        ("serve.quantization", "serve.quantize"),
        ("limit.memory", "limits.memory"),
        ("xyzzy", None),
    ],
)
def test_the_nearest_key_is_found(written: str, meant: str | None) -> None:
    assert nearest(written) == meant
