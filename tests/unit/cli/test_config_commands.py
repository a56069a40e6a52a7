"""`gridnode config`, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gridnode.cli.app import create_app


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file; nothing else is configured."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("GRIDNODE_CONFIG", str(path))
    monkeypatch.delenv("GRIDNODE_NODE_NAME", raising=False)
    return path


def config(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(create_app(), ["config", *arguments], env=env)


def test_what_is_set_can_be_got_and_taken_out_again(file: Path) -> None:
    assert config("get", "limits.memory").stdout == ""
    done = config("set", "limits.memory", "4GiB")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "next start" in done.stderr
    assert config("get", "limits.memory").stdout == "4GiB\n"
    assert file.read_text() == '[limits]\nmemory = "4GiB"\n'
    assert config("unset", "limits.memory").exit_code == 0
    assert config("get", "limits.memory").stdout == ""


def test_a_list_takes_several_values_and_gives_lines(file: Path) -> None:
    config("set", "swarm.join", "192.0.2.7", "192.0.2.8:9")
    assert config("get", "swarm.join").stdout == "192.0.2.7:7338\n192.0.2.8:9\n"
    assert config("set", "node.name", "Ada", "Lovelace").exit_code == 2


def test_json_says_where_a_value_comes_from(file: Path) -> None:
    config("set", "node.name", "Ada")
    expected = {"key": "node.name", "value": "Ada", "origin": "user file", "where": f"{file}:2"}
    assert json.loads(config("get", "node.name", "--json").stdout) == expected
    assert expected in json.loads(config("show", "--json").stdout)["values"]
    keys = json.loads(config("keys", "--json").stdout)["keys"]
    assert {"flag": "--name", "live": True}.items() <= next(
        k for k in keys if k["key"] == "node.name"
    ).items()


def test_show_names_every_origin(file: Path) -> None:
    config("set", "limits.threads", "2")
    shown = config("show", "--origin", env={"GRIDNODE_NODE_NAME": "Ada"}).stdout
    assert f"# user file {file}:2" in shown
    assert "# environment GRIDNODE_NODE_NAME" in shown
    assert "# default" in shown


def test_a_variable_that_wins_over_the_file_is_told(file: Path) -> None:
    done = config("set", "node.name", "Ada", env={"GRIDNODE_NODE_NAME": "Bo"})
    assert "GRIDNODE_NODE_NAME is set here" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["get", "serve.modle"], "did you mean serve.model?"),
        (["set", "limits.memory", "lots"], "limits.memory: 'lots' is not a size"),
        (["set", "limits.threads", "0"], "at least 1"),
    ],
)
def test_mistakes_end_with_2_and_change_nothing(file: Path, arguments: list[str], complaint: str) -> None:
    done = config(*arguments)
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert not file.exists()


def test_an_editor_gets_a_file_with_every_key_and_its_mistakes_are_told(file: Path) -> None:
    assert config("edit", env={"VISUAL": "", "EDITOR": "true"}).exit_code == 0
    assert "#memory" in file.read_text()
    done = config("edit", env={"VISUAL": "sed -i s/^#model/modle/"})
    assert done.exit_code == 2
    assert "did you mean serve.model?" in done.stderr
    assert config("edit", env={"VISUAL": "false"}).exit_code == 2


def test_other_commands_tell_of_a_broken_file_in_one_line(file: Path) -> None:
    file.write_text("[api]\nadress = '127.0.0.1:1'\n")
    done = CliRunner().invoke(create_app(), ["status"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"gridnode: {file} line 2: there is no key api.adress; did you mean api.address?"
    ]


def test_other_commands_find_the_door_that_is_configured(file: Path) -> None:
    config("set", "api.address", "127.0.0.1:9")
    done = CliRunner().invoke(create_app(), ["status"])
    assert done.exit_code == 3
    assert "127.0.0.1:9" in done.stderr
