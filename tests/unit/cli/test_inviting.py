"""`gridnode invite` and `gridnode join`, run in this process."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from fake_node import STATUS
from typer.testing import CliRunner, Result

from gridnode.cli.app import create_app
from gridnode.cli.inviting import Wish, make_invitation, qr_text
from gridnode.config import NodeConfig
from gridnode.config.swarm_file import SwarmFile, find_swarm
from gridnode.core.addresses import Address
from gridnode.core.invitation import Invitation, for_member, from_link, to_link
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey
from gridnode.errors import BadInput

KEY = SwarmKey(seed=bytes(range(32)), made_s=1_700_000_000, older_until_s=1_700_000_000)
MEMBER = SwarmPass(name="grandma", keys=(KEY,))


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDNODE_NODE_STATE_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("GRIDNODE_API_ADDRESS", "127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("GRIDNODE_SWARM_LISTEN", "192.0.2.7:7338")
    return tmp_path / "a"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(create_app(), [*arguments], input=stdin)


def invite(*arguments: str) -> str:
    made = run("invite", *arguments)
    assert made.exit_code == 0, made.stderr
    return made.stdout.strip()


def kept(directory: Path) -> SwarmPass:
    found = SwarmFile(directory).read()
    assert found is not None
    return found.swarm


def test_the_first_invitation_makes_a_key_that_only_its_owner_can_read(state_dir: Path) -> None:
    link = invite("--private")
    assert (state_dir / "swarm.json").stat().st_mode & 0o777 == 0o600
    invitation = from_link(link)
    assert invitation.swarm == kept(state_dir)
    assert invitation.swarm.name == "home"
    assert invitation.addresses == (Address("192.0.2.7", 7338),)
    assert from_link(invite()).swarm == invitation.swarm, "the next one is for the same swarm"


def test_the_link_is_data_and_the_words_about_it_are_for_people() -> None:
    made = run("invite", "--private", "--no-qr")
    assert made.stdout.startswith("gridnode://home/")
    assert "whoever reads this link is a member of swarm 'home' for good" in made.stderr
    assert "gridnode join -" in made.stderr
    assert "gridnode://" not in made.stderr


def test_a_public_swarm_has_invitations_without_a_secret_and_without_limits() -> None:
    made = run("invite")
    assert made.stdout == "gridnode://home/public?at=192.0.2.7:7338\n"
    assert "is public" in made.stderr
    refused = run("invite", "--chat-only")
    assert refused.exit_code == 2
    assert "'gridnode invite --private' makes a key" in refused.stderr


def test_a_guest_gets_a_ticket_that_ends(state_dir: Path) -> None:
    invite("--private")
    record = json.loads(invite("--chat-only", "--for", "7d", "--json"))
    ticket = from_link(record["link"]).swarm.ticket
    assert ticket is not None
    assert ticket.grant.until_s == pytest.approx(time.time() + 7 * 86400, abs=60)
    assert (record["use"], record["private"], record["old_key_until"]) == ("chat", True, None)
    assert kept(state_dir).keys[0].seed.hex() not in record["link"]
    assert json.loads(invite("--for", "2h", "--json"))["use"] == "serve"
    assert "may ask swarm 'home' until" in run("invite", "--chat-only").stderr


@pytest.mark.parametrize("how", ["-", "@", "link"])
def test_who_joins_holds_what_was_given(how: str, tmp_path: Path) -> None:
    link = invite("--private")
    (tmp_path / "invitation.txt").write_text(link + "\n")
    said = {"-": "-", "@": f"@{tmp_path / 'invitation.txt'}", "link": link}[how]
    joined = run("join", said, "--state-dir", str(tmp_path / "b"), stdin=link + "\n")
    assert joined.exit_code == 0, joined.stderr
    assert "a member of the private swarm 'home'" in joined.stderr
    assert ("history of your shell" in joined.stderr) == (how == "link")
    assert (tmp_path / "b" / "swarm.json").stat().st_mode & 0o777 == 0o600
    found = find_swarm(NodeConfig(state_dir=tmp_path / "b"), {})
    assert found == from_link(link)


def test_a_guest_neither_invites_nor_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invite("--private")
    guest = tmp_path / "b"
    joined = run("join", invite("--chat-only"), "--state-dir", str(guest), "--json")
    assert json.loads(joined.stdout)["use"] == "chat"
    assert "only members can invite" in run("invite", "--state-dir", str(guest)).stderr
    with pytest.raises(BadInput, match="for chatting only: nobody would use the blocks of m"):
        find_swarm(NodeConfig(state_dir=guest, model="m"), {})
    soon = time.time() + 40 * 86400
    with pytest.raises(BadInput, match=r"ended at .*; ask a member for a new one"):
        find_swarm(NodeConfig(state_dir=guest), {}, wall_s=lambda: soon)


@pytest.mark.parametrize("link", ["", "hello", "gridnode://home/AAAA", "gridnode://home"])
def test_what_is_no_invitation_is_refused_without_repeating_it(link: str) -> None:
    refused = run("join", "-", stdin=link)
    assert refused.exit_code == 2
    assert "invitation" in refused.stderr
    assert "AAAA" not in refused.stderr


def test_a_key_is_not_forgotten_by_accident(state_dir: Path) -> None:
    invite("--private")
    other = to_link(Invitation(swarm=for_member(MEMBER)))
    refused = run("join", "-", stdin=other)
    assert refused.exit_code == 2
    assert "forgets it" in refused.stderr
    assert run("join", "-", "--replace", stdin=other).exit_code == 0
    assert kept(state_dir) == MEMBER


def test_an_invitation_to_another_swarm_than_the_configured_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRIDNODE_SWARM_NAME", "lab")
    refused = run("join", "-", stdin=to_link(Invitation(swarm=for_member(MEMBER))))
    assert "gridnode config unset swarm.name" in refused.stderr


def test_a_new_key_counts_beside_the_old_one_for_the_grace_period(state_dir: Path) -> None:
    invite("--private")
    [old] = kept(state_dir).keys
    made = run("invite", "--rotate", "--grace", "2h")
    new, before = kept(state_dir).keys
    assert before == old
    assert new.older_until_s - new.made_s == 7200
    assert new.made_s > old.made_s
    assert from_link(made.stdout.strip()).swarm.keys[0].seed == new.seed
    assert "members follow to the new key by themselves until" in made.stderr
    again = run("invite", "--rotate", "--grace", "0s")
    assert "the old key counts no more" in again.stderr
    assert len(kept(state_dir).public_keys(now_s=time.time() + 10)) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--grace", "1h"), "goes with --rotate"),
        (("--rotate", "--grace", "91d"), "90d at most"),
        (("--for", "0s"), "takes 1s to 3650d"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(arguments: tuple[str, ...], problem: str) -> None:
    invite("--private")
    refused = run("invite", *arguments)
    assert refused.exit_code == 2
    assert problem in refused.stderr


def test_the_node_that_runs_says_its_swarm_and_addresses(state_dir: Path) -> None:
    status = replace(STATUS, swarm="lab", addresses=("192.0.2.9:1",))
    config = NodeConfig(state_dir=state_dir)
    swarm, invitation = make_invitation(config, {}, Wish(private=True), status=status, now_s=KEY.made_s)
    assert swarm.name == "lab"
    assert invitation.addresses == (Address("192.0.2.9", 1),)


@pytest.mark.parametrize("private", [False, True])
def test_who_lacks_the_key_of_the_node_that_runs_invites_to_no_namesake(
    private: bool, state_dir: Path, tmp_path: Path
) -> None:
    status = replace(STATUS, swarm=MEMBER.name, swarm_is_private=True)
    wish = Wish(private=private)
    with pytest.raises(BadInput, match=r"swarm 'grandma', and its key is not in .*: give --state-dir"):
        make_invitation(NodeConfig(state_dir=state_dir), {}, wish, status=status, now_s=KEY.made_s)
    assert not (state_dir / "swarm.json").exists()
    service = NodeConfig(state_dir=tmp_path / "service")
    SwarmFile(service.state_dir).write(Invitation(swarm=MEMBER))
    swarm, _ = make_invitation(service, {}, wish, status=status, now_s=KEY.made_s)
    assert swarm == MEMBER


@pytest.mark.parametrize("where", ["variable", "file", "credential"])
def test_services_are_given_their_key(where: str, tmp_path: Path, state_dir: Path) -> None:
    link = to_link(Invitation(swarm=for_member(MEMBER)))
    secret = tmp_path / "gridnode-swarm"
    secret.write_text(link)
    environ = {
        "variable": {"GRIDNODE_SWARM_KEY": link},
        "credential": {"CREDENTIALS_DIRECTORY": str(tmp_path)},
    }.get(where, {})
    config = NodeConfig(state_dir=state_dir, swarm_key_file=secret if where == "file" else None)
    assert find_swarm(config, environ).swarm == MEMBER
    # A node that learnt of a newer key keeps to it, whatever the service still says.
    newer = SwarmKey(seed=b"x" * 32, made_s=KEY.made_s + 1, older_until_s=KEY.made_s + 1)
    SwarmFile(state_dir).write(Invitation(swarm=MEMBER.with_key(newer)))
    assert find_swarm(config, environ).swarm.keys[0] == newer


def test_a_file_that_others_may_read_is_refused(state_dir: Path) -> None:
    invite("--private")
    (state_dir / "swarm.json").chmod(0o644)
    refused = run("invite")
    assert refused.exit_code == 2
    assert "has mode 0644" in refused.stderr
    assert "--rotate" in refused.stderr


def test_the_qr_code_says_the_link() -> None:
    link = invite("--private") + ",192.0.2.8:7338"
    rows = []
    for line in qr_text(link).splitlines():
        rows.append([char in "█▀" for char in line])
        rows.append([char in "█▄" for char in line])
    image = np.kron(np.array(rows, dtype=np.uint8) * 255, np.ones((4, 4), dtype=np.uint8))
    [found] = zxingcpp.read_barcodes(image)
    assert found.text == link


def test_the_longest_usual_link_fits_a_terminal() -> None:
    invite("--private")
    link = invite("--chat-only") + ",192.168.100.100:7338" * 3
    assert max(map(len, qr_text(link).splitlines())) <= 80
