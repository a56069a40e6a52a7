"""`gridnode keys`, run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gridnode.cli.app import create_app
from gridnode.cli.first_key import make_first_key
from gridnode.config import NodeConfig
from gridnode.control.door_policy import DoorPolicy, policy_of
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.core.addresses import Address


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDNODE_NODE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(create_app(), ["keys", *arguments])


def test_a_key_is_data_and_the_words_about_it_are_for_people(state_dir: Path) -> None:
    made = keys("create", "laptop")
    assert made.exit_code == 0
    found = KeyFile(state_dir).find(made.stdout.strip())
    assert found is not None
    assert found.scopes == (Scope.CHAT, Scope.MONITOR)
    assert "shown this once" in made.stderr
    assert "gn-" not in made.stderr.replace("gn-...", "")
    assert made.stdout.strip() not in keys("list").output


def test_wishes_reach_the_key(state_dir: Path) -> None:
    made = keys(
        *("create", "bot", "--scope", "chat", "--scope", "admin", "--rate", "60", "--answers", "2", "--json")
    )
    record = json.loads(made.stdout)
    assert KeyFile(state_dir).find(record.pop("key")) is not None
    assert record["scopes"] == ["chat", "admin"]
    assert (record["requests_per_minute"], record["max_answers"]) == (60, 2)
    assert json.loads(keys("list", "--json").stdout) == {"keys": [record]}
    assert "sha256" not in record


def test_the_list_says_who_may_do_what() -> None:
    assert "no keys yet" in keys("list").stderr
    assert json.loads(keys("list", "--json").stdout) == {"keys": []}
    keys("create", "laptop [bold]", "--rate", "60")
    header, line = keys("list").stdout.splitlines()
    assert header.split()[:3] == ["ID", "NAME", "SCOPES"]
    assert "laptop [bold]" in line
    assert "chat monitor" in line
    assert " 60 " in line


def test_a_revoked_key_is_gone(state_dir: Path) -> None:
    secret = keys("create", "laptop").stdout.strip()
    revoked = keys("revoke", "laptop")
    assert "(laptop) is revoked" in revoked.stderr
    assert KeyFile(state_dir).find(secret) is None
    again = keys("revoke", "laptop")
    assert again.exit_code == 2
    assert "there are: none" in again.stderr


@pytest.mark.parametrize("arguments", [("create",), ("create", "x", "--scope", "root"), ("create", "x" * 65)])
def test_wrong_usage_ends_with_2(state_dir: Path, arguments: tuple[str, ...]) -> None:
    assert keys(*arguments).exit_code == 2
    assert KeyFile(state_dir).keys() == ()


def test_the_first_key_is_made_once_and_only_for_others(state_dir: Path) -> None:
    policy = DoorPolicy(keys=KeyFile(state_dir))
    assert make_first_key(policy, Address("127.0.0.1", 7337)) == ""
    secret = make_first_key(policy, Address("0.0.0.0", 7337))
    found = KeyFile(state_dir).find(secret)
    assert found is not None
    assert not found.allows(Scope.ADMIN)
    assert make_first_key(policy, Address("0.0.0.0", 7337)) == ""


def test_a_door_that_asks_everybody_has_a_first_key_on_loopback_too(state_dir: Path) -> None:
    policy = policy_of(NodeConfig(state_dir=state_dir, api_require_key=True))
    assert KeyFile(state_dir).find(make_first_key(policy, Address("127.0.0.1", 7337))) is not None
