"""One thing is broken after the other; the doctor names it, with its number and a command."""

from __future__ import annotations

import errno
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ailing import BLOCKED, HEALTHY, broken, the_one
from fake_node import STATUS
from zeroconf import DNSIncoming

from gridnode.cli.doctor.examination import diagnose
from gridnode.cli.doctor.findings import Group, State
from gridnode.cli.doctor.machine import StateDir
from gridnode.cli.doctor.network import MACOS_BLOCKED, Attempt
from gridnode.cli.doctor.network_facts import mdns_question
from gridnode.cli.doctor.relays import RelayVisit
from gridnode.cli.doctor.service import Unit
from gridnode.cli.doctor.service_facts import read_unit
from gridnode.cli.doctor.swarm import Visit
from gridnode.core.addresses import Address
from gridnode.core.grants import Use, make_ticket
from gridnode.core.politeness import Circumstances, Terms
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey
from gridnode.net.discovery import SERVICE_TYPE
from gridnode.units import GIB, MIB

THERE = Address("192.0.2.7", 7338)
UNIT = Unit(
    is_user=False,
    load_state="loaded",
    active_state="active",
    sub_state="running",
    file_state="enabled",
    watchdog_s=60.0,
)


def visit(**changes: Any) -> Visit:
    return replace(
        Visit(address=THERE, is_joined=True, version="0.1.0", swarm="home"),
        **changes,
    )


def test_a_healthy_computer_is_ready() -> None:
    found = diagnose(HEALTHY)
    assert {finding.state for finding in found.findings} == {State.OK}
    assert found.verdict == (
        "Ready to serve 18 blocks of Qwen3 (0:18 of 36); others on its network reach it at 192.168.1.7:7338."
    )


@pytest.mark.parametrize(
    ("part", "changes", "check", "measured", "mend"),
    [
        ("machine", {"config_problem": "f:3: no key x"}, "configuration", "f:3: no key x", "config edit"),
        ("machine", {"packages": {"torch": ""}}, "packages", "torch missing", "pip install torch"),
        ("machine", {"budget_bytes": 32 * GIB}, "memory", "8.00 GiB of 16.0 GiB free", "limits.memory"),
        ("machine", {"clock_offsets_s": (-3600.0,)}, "clock", "60 min ahead of 1 other node", "timedatectl"),
        (
            "machine",
            {"clock_offsets_s": (0.1, 3600.0, 3601.0)},
            "clock",
            "behind 3 other nodes",
            "timedatectl",
        ),
        (
            "machine",
            {"state_dir": StateDir(path=Path("/s"), problem="held (process 42)", holder_pid=42)},
            "state directory",
            "process 42",
            "kill 42",
        ),
        (
            "machine",
            {"state_dir": StateDir(path=Path("/s"), problem="cannot write to /s")},
            "state directory",
            "cannot write",
            "chown",
        ),
        (
            "machine",
            {"state_dir": StateDir(path=Path("/s"), identity_problem="mode 0644")},
            "state directory",
            "0644",
            "chmod 600",
        ),
        ("network", {"udp_port_problem": "held by process 7"}, "udp port", "process 7", "--listen 0.0.0.0:0"),
        ("network", {"door_problem": "held by process 8"}, "door", "process 8", "--api 127.0.0.1:0"),
        (
            "network",
            {"echoes": (Attempt(host="127.0.0.1", problem="nothing came back within 1 s"),)},
            "udp",
            "no UDP: 127.0.0.1: nothing came back",
            "nft",
        ),
        (
            "network",
            {"platform": "darwin", "multicasts": (BLOCKED,)},
            "mdns",
            "macOS blocked this process from the local network (Privacy & Security > Local Network)",
            "open ",
        ),
        ("swarm", {"visits": (visit(problem="nobody answers"),)}, "join", "nobody answers", "# at 192.0.2.7"),
        (
            "swarm",
            {"visits": (visit(swarm="work", refusal="no"),)},
            "join",
            "'work'",
            "swarm.name work",
        ),
        ("swarm", {"visits": (visit(protocol=9),)}, "versions", "protocol 9", "upgrade"),
        ("swarm", {"door_problem": "it is silent"}, "node", "it is silent", "gridnode logs"),
        (
            "swarm",
            {"door_problem": "the door wants a key", "needs_key": True},
            "node",
            "wants a key",
            "export GRIDNODE_API_KEY=$(gridnode keys create doctor)",
        ),
        ("model", {"problem": "cannot read m.safetensors"}, "model", "cannot read", "gridnode show"),
        ("model", {"span": None, "span_problem": "one block needs 3 GiB"}, "blocks", "3 GiB", "int4"),
        ("model", {"executor_problem": "onnx cannot"}, "executor", "onnx cannot", "serve.executor auto"),
    ],
)
def test_what_keeps_a_node_from_working_fails(
    part: str, changes: dict[str, Any], check: str, measured: str, mend: str
) -> None:
    diagnosis = broken(part, **changes)
    found = the_one(diagnosis, State.FAIL)
    assert (found.group, found.check) == (part, check)
    assert measured in found.measured
    assert mend in found.mend
    assert diagnosis.fails
    assert diagnosis.verdict.startswith("Not ready: 1 of")
    assert check in diagnosis.verdict


@pytest.mark.parametrize(
    ("part", "changes", "check", "measured"),
    [
        ("machine", {"free_memory_bytes": 2 * GIB}, "memory", "2.00 GiB of 16.0 GiB free"),
        ("machine", {"threads": 32}, "cores", "32 threads"),
        ("machine", {"clock_offsets_s": (60.0,)}, "clock", "60 s behind"),
        ("machine", {"is_clock_synchronized": False}, "clock", "nothing sets it"),
        ("network", {"multicasts": ()}, "mdns", "do not find each other"),
        ("network", {"multicasts": (BLOCKED,)}, "mdns", "192.168.1.7: No route to host"),
        ("network", {"addresses": ()}, "addresses", "alone"),
        ("network", {"listen": Address("127.0.0.1", 7338)}, "addresses", "no other computer"),
        ("swarm", {"visits": (visit(version="0.0.9"),)}, "versions", "others run 0.0.9"),
        ("model", {"damaged_files": (Path("/c/block-3.safetensors"),)}, "block cache", "block-3"),
        ("model", {"has_chat_template": False}, "chat template", "chats are refused"),
        ("model", {"missing_files": 3, "missing_bytes": 5 * GIB}, "model", "the start fetches 5.00 GiB"),
    ],
)
def test_what_is_worth_a_look_is_a_warning(
    part: str, changes: dict[str, Any], check: str, measured: str
) -> None:
    diagnosis = broken(part, **changes)
    found = the_one(diagnosis, State.WARN)
    assert (found.group, found.check) == (part, check)
    assert measured in found.measured
    assert not diagnosis.fails
    assert diagnosis.verdict.endswith("1 warning above.")


@pytest.mark.parametrize(("free_bytes", "state"), [(GIB, State.FAIL), (2 * GIB + MIB, State.WARN)])
def test_a_full_disk_is_told_with_what_is_wanted(free_bytes: int, state: State) -> None:
    disk = replace(HEALTHY.machine.disks[0], free_bytes=free_bytes)
    found = the_one(broken("machine", disks=(disk,)), state)
    assert found.check == "cache disk"
    assert "up to 2.00 GiB wanted" in found.measured
    assert found.mend == "gridnode list"


def test_what_a_fetch_leaves_free_counts() -> None:
    disk = replace(HEALTHY.machine.disks[0], free_bytes=5 * GIB, wanted_bytes=3 * GIB, reserve_bytes=3 * GIB)
    assert the_one(broken("machine", disks=(disk,)), State.FAIL).check == "cache disk"
    assert not broken("machine", disks=(replace(disk, wanted_bytes=0),)).fails


def test_loopback_that_is_down_has_a_command_of_its_own() -> None:
    echo = Attempt(host="127.0.0.1", problem="Network is unreachable", error_number=errno.ENETUNREACH)
    assert the_one(broken("network", echoes=(echo,)), State.FAIL).mend == "ip link set lo up"


def test_one_of_several_that_does_not_answer_is_no_failure() -> None:
    visits = (visit(problem="nobody answers"), visit(address=Address("192.0.2.8", 7338)))
    assert the_one(broken("swarm", visits=visits), State.WARN).check == "join"


def test_one_wrong_clock_elsewhere_does_not_blame_this_one() -> None:
    assert not broken("machine", clock_offsets_s=(0.1, 3600.0, -0.2)).fails


def test_what_the_running_node_holds_is_in_order() -> None:
    state_dir = StateDir(path=Path("/s"), problem="held", holder_pid=42)
    found = broken("machine", state_dir=state_dir, running_pid=42)
    assert not found.fails
    assert any("held by the node that runs (process 42)" in finding.measured for finding in found.findings)


def test_a_running_node_is_asked() -> None:
    lost = replace(STATUS.peers[0], is_self=False, short="lost", state="unreachable", problem="refused")
    gap = replace(STATUS.models[0], name="tiny", gaps=((3, 5),))
    status = replace(STATUS, peers=(STATUS.peers[0], lost), models=(gap,))
    found = broken("swarm", status=status)
    told = {finding.check: finding for finding in found.findings if finding.state is State.WARN}
    assert "lost: refused" in told["peers"].measured
    assert told["gaps"].mend == "gridnode up --model tiny --blocks 3:5"
    assert found.verdict.startswith("The node that runs is ")


def test_a_strangers_name_is_no_command() -> None:
    gap = replace(STATUS.models[0], name="x; id #", gaps=((3, 5),))
    found = broken("swarm", status=replace(STATUS, models=(gap,)))
    assert "gridnode up --model 'x; id #' --blocks 3:5" in {finding.mend for finding in found.findings}
    other = visit(swarm="it's $(id)", refusal="another swarm")
    [mend] = (f.mend for f in broken("swarm", visits=(other,)).findings if f.check == "join")
    assert shlex.split(mend) == ["gridnode", "config", "set", "swarm.name", "it's $(id)"]


def test_one_group_alone() -> None:
    found = diagnose(HEALTHY, (Group.NETWORK,))
    assert {finding.group for finding in found.findings} == {Group.NETWORK}
    assert found.verdict.startswith("The network does all that a node needs; others")


@pytest.mark.parametrize(
    ("unit", "state", "measured", "mend"),
    [
        (
            replace(UNIT, active_state="failed", result="watchdog", restarts=5),
            State.FAIL,
            "it failed: watchdog, restarted 5 times",
            "sudo systemctl restart gridnode",
        ),
        (replace(UNIT, active_state="inactive"), State.WARN, "inactive", "sudo systemctl start gridnode"),
        (
            replace(UNIT, file_state="disabled"),
            State.WARN,
            "does not start",
            "sudo systemctl enable gridnode",
        ),
        (replace(UNIT, watchdog_s=0.0), State.WARN, "none watches", "sudo gridnode service install"),
        (
            replace(UNIT, is_user=True, active_state="failed", result="exit-code"),
            State.FAIL,
            "journalctl --user",
            "systemctl --user restart gridnode",
        ),
    ],
)
def test_a_service_that_does_not_run(unit: Unit, state: State, measured: str, mend: str) -> None:
    found = the_one(broken("service", has_systemd=True, units=(unit,)), state)
    assert measured in found.measured
    assert found.mend == mend


def test_the_words_of_systemd_are_read() -> None:
    text = (
        "Result=success\nNRestarts=2\nLoadState=loaded\nActiveState=active\nSubState=running\n"
        "UnitFileState=enabled\nWatchdogUSec=1min\n"
    )
    assert read_unit(text, is_user=False) == replace(UNIT, restarts=2)
    absent = read_unit("LoadState=not-found\nActiveState=inactive\nWatchdogUSec=infinity\n", is_user=True)
    assert not absent.is_installed


@pytest.mark.parametrize(
    ("listen", "hosts", "measured"),
    [
        ("0.0.0.0", (), "no address of its own"),
        ("0.0.0.0", ("2001:db8::7",), "there is 2001:db8::7, but the node listens on 0.0.0.0:7338 only"),
        ("::", ("2001:db8::7",), "used, at 2001:db8::7"),
    ],
)
def test_ipv6_is_told_without_a_warning(listen: str, hosts: tuple[str, ...], measured: str) -> None:
    found = broken("network", listen=Address(listen, 7338), ipv6_hosts=hosts)
    assert not found.fails
    [said] = (finding for finding in found.findings if finding.check == "ipv6")
    assert measured in said.measured
    is_unused = "only: IPv4 is used" in said.measured
    assert said.mend == ("gridnode up --listen '[::]:7338'  # takes both" if is_unused else "")


KEY = SwarmKey(seed=bytes(range(32)), made_s=1_790_000_000, older_until_s=1_790_000_000)
TICKET = make_ticket(KEY, bytes(32), use=Use.CHAT, until_s=1_790_086_400)


@pytest.mark.parametrize(
    ("changes", "state", "measured"),
    [
        ({"swarm": SwarmPass(name="home", keys=(KEY,))}, State.OK, "a member of the private swarm 'home'"),
        (
            {"swarm": SwarmPass(name="home", ticket=TICKET)},
            State.OK,
            "chat only, until 2026-09-22 14:13 UTC",
        ),
        ({"key_problem": "the invitation ended"}, State.FAIL, "the invitation ended"),
        ({"visits": (visit(swarm="", refusal="it has another swarm key"),)}, State.FAIL, "wrong key: it has"),
        (
            {"swarm": SwarmPass(name="home", keys=(KEY,)), "status": STATUS},
            State.WARN,
            "has not taken over what changed",
        ),
    ],
)
def test_the_swarm_key_has_a_line_of_its_own(changes: dict[str, Any], state: State, measured: str) -> None:
    found = [finding for finding in broken("swarm", **changes).findings if finding.check == "swarm key"]
    assert found[-1].state is state
    assert measured in found[-1].measured
    assert bool(found[-1].mend) == (state is not State.OK)


def test_a_public_swarm_has_no_line_about_keys() -> None:
    assert all(finding.check != "swarm key" for finding in diagnose(HEALTHY).findings)


def test_the_question_is_one_that_responders_understand() -> None:
    [question] = DNSIncoming(mdns_question()).questions
    assert question.name == SERVICE_TYPE


def test_the_sentence_about_macos_is_that_of_the_documents() -> None:
    text = (Path(__file__).parents[4] / "docs" / "doctor.md").read_text()
    assert MACOS_BLOCKED in text


HERE = RelayVisit(place=Address("192.0.2.7", 7339), rtt_s=0.012, observed=Address("203.0.113.5", 50000))
GONE = replace(HERE, problem="nobody answered")


def test_the_last_line_names_the_nearest_relay() -> None:
    far = replace(HERE, place=Address("192.0.2.8", 7339), rtt_s=0.05)
    verdict = diagnose(replace(HEALTHY, relays=(far, HERE, replace(GONE, rtt_s=0.0)))).verdict
    assert (
        "those on the Internet meet it at relays, the nearest of which is 192.0.2.7:7339 (12 ms)" in verdict
    )


@pytest.mark.parametrize(
    ("visits", "state", "measured"),
    [
        ((GONE,), State.FAIL, "the relay at 192.0.2.7:7339 cannot be used: nobody answered"),
        ((HERE, GONE), State.WARN, "cannot be used"),
        ((replace(HERE, by_tcp=True, observed=None),), State.WARN, "12 ms, but by TCP only"),
    ],
)
def test_a_relay_that_is_of_little_use(visits: tuple[RelayVisit, ...], state: State, measured: str) -> None:
    found = the_one(diagnose(replace(HEALTHY, relays=visits)), state)
    assert (found.group, found.check) == (Group.NETWORK, "relay")
    assert measured in found.measured


def test_a_relay_tells_where_it_sees_this_computer() -> None:
    [found] = [f for f in diagnose(replace(HEALTHY, relays=(HERE,))).findings if f.check == "relay"]
    assert found.state is State.OK
    assert found.measured.endswith("answers in 12 ms, and sees this computer at 203.0.113.5:50000")


@pytest.mark.parametrize(
    ("seen", "state", "measured"),
    [
        (Circumstances(minute=0, on_battery=False, idle_s=900.0), State.OK, "a node may serve now"),
        (Circumstances(minute=0, on_battery=True, idle_s=900.0), State.OK, "a node pauses now: on battery"),
        (
            Circumstances(minute=0, on_battery=True),
            State.WARN,
            "a node pauses now: on battery; this computer does not tell enough for when.idle",
        ),
    ],
)
def test_when_a_node_may_serve_is_told(seen: Circumstances, state: State, measured: str) -> None:
    terms = Terms(on_mains=True, idle_s=600.0)
    found = broken("machine", terms=terms, circumstances=seen)
    [finding] = [finding for finding in found.findings if finding.check == "when to serve"]
    assert finding.state is state
    assert finding.measured.startswith(measured)
