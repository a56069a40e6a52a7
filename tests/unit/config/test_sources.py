"""Who wins: flag > environment > user file > system file > default."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridnode.config import sources
from gridnode.config.layers import Given, merge, to_node_config
from gridnode.config.sources import read_environment, read_sources, strange_variables, user_file
from gridnode.errors import BadInput


def test_the_last_layer_that_has_a_value_wins() -> None:
    names = [Given("system"), Given("user"), Given("environment"), Given("flag")]
    for count in range(len(names) + 1):
        layers = [{"node.name": given} for given in names[:count]]
        expected = names[count - 1].value if count else ""
        assert merge(*layers)["node.name"].value == expected


def test_files_environment_and_flags_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, user = tmp_path / "system.toml", tmp_path / "gridnode" / "config.toml"
    user.parent.mkdir()
    system.write_text(
        "[limits]\nthreads = 1\ncache_tokens = 1\n[node]\nname = 'system'\n[swarm]\nname = 's'\n"
    )
    user.write_text("[limits]\nthreads = 2\ncache_tokens = 2\n[node]\nname = 'user'\n")
    monkeypatch.setattr(sources, "SYSTEM_FILE", system)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    environ = {"GRIDNODE_LIMITS_THREADS": "3", "GRIDNODE_NODE_NAME": ""}
    found = read_sources(environ, {"limits.threads": Given(4, "flag", "--threads")})
    assert found["limits.threads"] == Given(4, "flag", "--threads")
    assert found["node.name"] == Given("user", "user file", f"{user}:5")
    assert found["swarm.name"] == Given("s", "system file", f"{system}:7")
    assert found["serve.model"] == Given("", "default")
    config = to_node_config(found)
    assert (config.threads, config.cache_tokens, config.public_name, config.swarm) == (4, 2, "user", "s")


def test_one_named_file_replaces_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, only = tmp_path / "system.toml", tmp_path / "only.toml"
    system.write_text("[limits]\nthreads = 1\n")
    only.write_text("[node]\nname = 'only'\n")
    monkeypatch.setattr(sources, "SYSTEM_FILE", system)
    found = read_sources({"GRIDNODE_CONFIG": str(only)})
    assert user_file({"GRIDNODE_CONFIG": str(only)}) == only
    assert (found["node.name"].value, found["limits.threads"].value) == ("only", None)


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(BadInput, match="GRIDNODE_LIMITS_THREADS: 'x' is not a whole number"):
        read_environment({"GRIDNODE_LIMITS_THREADS": "x"})
    with pytest.raises(BadInput, match="64 characters"):
        read_environment({"GRIDNODE_NODE_NAME": "x" * 65})


def test_a_misspelt_variable_is_pointed_out_and_others_are_left_alone() -> None:
    environ = {"GRIDNODE_SERVE_MODLE": "x", "GRIDNODE_SERVE_MODEL": "x", "GRIDNODE_CONFIG": "x", "HOME": "x"}
    assert strange_variables(environ) == [
        "GRIDNODE_SERVE_MODLE is not read; did you mean GRIDNODE_SERVE_MODEL?"
    ]
