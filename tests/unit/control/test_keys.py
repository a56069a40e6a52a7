"""Keys and the file that keeps them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gridnode.control.key_file import KEY_FILE, KeyFile
from gridnode.control.keys import KEY_BYTES, ApiKey, Scope, new_secret
from gridnode.errors import BadInput

CHAT = (Scope.CHAT,)


def test_keys_are_long_random_and_recognizable() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("gn-")
    # Base32 without padding has 8 characters for 5 bytes.
    assert len(first) == len("gn-") + -(-KEY_BYTES * 8 // 5)
    assert first.removeprefix("gn-").isalnum()


def test_a_key_is_found_again_and_kept_nowhere(tmp_path: Path) -> None:
    key, secret = KeyFile(tmp_path).create("laptop", scopes=CHAT)
    assert KeyFile(tmp_path).find(secret) == key
    assert KeyFile(tmp_path).find(secret + "x") is None
    assert KeyFile(tmp_path).find("") is None
    content = (tmp_path / KEY_FILE).read_text()
    assert secret not in content
    assert secret.removeprefix("gn-") not in content
    assert secret not in repr(key)


def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.create("laptop", scopes=CHAT)
    keys.create("phone", scopes=CHAT)
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_a_running_node_sees_changes_at_once(tmp_path: Path) -> None:
    node, command = KeyFile(tmp_path), KeyFile(tmp_path)
    assert node.find(new_secret()) is None
    key, secret = command.create("laptop", scopes=CHAT)
    assert node.find(secret) == key
    assert command.revoke(key.id) == key
    assert node.find(secret) is None
    node.path.unlink()
    assert node.find(secret) is None


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFile(tmp_path)
    _, secret = keys.create("laptop", scopes=CHAT)
    assert keys.find(secret)
    monkeypatch.setattr(KeyFile, "keys", lambda self: pytest.fail("read again"))
    assert keys.find(secret)


def test_a_broken_file_refuses_every_key_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFile(tmp_path)
    _, secret = keys.create("laptop", scopes=CHAT)
    keys.path.write_text('{"keys": [{"id": "')
    monkeypatch.setattr(logging.getLogger("gridnode"), "propagate", True)
    with caplog.at_level(logging.ERROR):
        assert keys.find(secret) is None
        assert keys.find(secret) is None
    assert [record.message.count("every key is refused") for record in caplog.records] == [1]
    with pytest.raises(BadInput, match="repair the file"):
        keys.keys()
    with pytest.raises(BadInput, match="repair the file"):
        keys.create("phone", scopes=CHAT)


def test_nobodys_change_is_lost(tmp_path: Path) -> None:
    def create(number: int) -> ApiKey:
        return KeyFile(tmp_path).create(f"key {number}", scopes=CHAT)[0]

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(create, range(24)))
    assert set(KeyFile(tmp_path).keys()) == made


def test_a_key_is_revoked_by_id_or_name(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    first, _ = keys.create("laptop", scopes=CHAT)
    second, _ = keys.create("phone", scopes=CHAT)
    keys.revoke("laptop")
    keys.revoke(second.id)
    assert keys.keys() == ()
    with pytest.raises(BadInput, match=r"no key has the id or name '[0-9a-f]{8}'; there are: none"):
        keys.revoke(first.id)


def test_names_are_unique(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.create("laptop", scopes=CHAT)
    with pytest.raises(BadInput, match="'laptop' already"):
        keys.create("laptop", scopes=CHAT)


@pytest.mark.parametrize(
    ("wish", "part"),
    [
        ({"name": ""}, "printable"),
        ({"name": "a\x1b[2J"}, "printable"),
        ({"name": "x" * 65}, "64"),
        ({"scopes": ()}, "chat, monitor, admin"),
        ({"requests_per_minute": 0}, "at least 1"),
        ({"max_answers": 0}, "at least 1"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(tmp_path: Path, wish: dict[str, object], part: str) -> None:
    given = {"name": "laptop", "scopes": CHAT} | wish
    with pytest.raises(BadInput, match=part):
        KeyFile(tmp_path).create(**given)  # type: ignore[arg-type]
    assert not (tmp_path / KEY_FILE).exists()


def test_admin_is_good_for_everything(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    chat, _ = keys.create("chat", scopes=CHAT)
    admin, _ = keys.create("admin", scopes=(Scope.ADMIN,))
    assert [chat.allows(scope) for scope in Scope] == [True, False, False]
    assert all(admin.allows(scope) for scope in Scope)
