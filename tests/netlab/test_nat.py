"""Nodes behind routers of every kind meet at relays, answer, and find the best way there is."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nat_lab import Internet, Nat, Site, environment, relay, why_not
from network_lab import NetworkLab, RunningNode
from waiting import eventually

from gridnode.net.paths import ROUND_S
from gridnode.node.path_talk import RETRY_S

pytestmark = [
    pytest.mark.netlab,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.timeout(900),
]

RELAYS = ("198.51.100.10", "198.51.100.11")
ASKING = Path(__file__).parents[1] / "asking_node.py"
# Longer than a round of probes.
PATIENCE_S = 6.0
# Longer than that and the guesses behind it.
GUESSING_S = 12.0

GUESSED = (Nat.EASY, Nat.SYMMETRIC)
KINDS = [(Nat.NONE, False), *itertools.product((Nat.EASY, Nat.SYMMETRIC), (False, True))]


def site_name(role: str, nat: Nat, answers: bool) -> str:
    return f"{role}-{nat.value[:4]}{'-a' if answers else ''}"


def sites() -> list[Site]:
    made = [Site(name=f"relay{i}", address=address, delay_s=0.02) for i, address in enumerate(RELAYS)]
    numbers = itertools.count(2)
    for role, (nat, answers) in itertools.product(("ask", "serve"), KINDS):
        name = site_name(role, nat, answers)
        made.append(Site(name=name, nat=nat, answers=answers, address=f"203.0.113.{next(numbers)}"))
    made.append(Site(name="ask-blocked", nat=Nat.EASY, address=f"203.0.113.{next(numbers)}"))
    return made


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with NetworkLab(tmp_path_factory.mktemp("lab")) as lab, Internet(lab, sites()) as made:
        made.block_udp("ask-blocked")
        with contextlib.ExitStack() as stack:
            for i in range(len(RELAYS)):
                stack.enter_context(relay(made.hosts[f"relay{i}"]))
            yield made


@pytest.fixture(scope="module")
def servers(internet: Internet, tiny_llama: Path) -> Iterator[dict[str, RunningNode]]:
    """One node of each kind that serves the whole model, each in a swarm of its own."""
    relays = [argument for address in RELAYS for argument in ("--relay", address)]
    with contextlib.ExitStack() as stack:
        found = {}
        for nat, answers in KINDS:
            name = site_name("serve", nat, answers)
            found[name] = stack.enter_context(
                internet.hosts[name].up(
                    *("--model", str(tiny_llama), "--threads", "1", "--no-mdns", "--swarm", name),
                    *("--guess-ports", *relays),
                )
            )
        for node in found.values():
            node.wait_listening()
        for node in found.values():
            eventually(
                lambda node=node: any(model["route"] for model in node.status()["models"]),
                timeout_s=120,
                hint=node.log,
            )
        yield found


def ask(
    internet: Internet,
    asking: str,
    server: RunningNode,
    directory: Path,
    *options: str,
    patience_s: float = PATIENCE_S,
) -> dict[str, Any]:
    """Let a node at the site `asking` join the swarm of `server` and ask it; return what it saw."""
    host = internet.hosts[asking]
    done = subprocess.run(
        host.command(
            *(sys.executable, str(ASKING), str(directory), server.host.name, str(patience_s)),
            *(*options, *RELAYS),
        ),
        env={**environment(), "HOME": str(directory), "LEVEL": "INFO"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr + server.log()
    found: dict[str, Any] = json.loads(done.stdout)
    assert [len(tokens) for tokens in found["tokens"]] == [4, 4]
    found["log"] = done.stderr
    return found


def expected(one: Nat, other: Nat) -> set[str]:
    if Nat.NONE in (one, other):
        return {"direct"}
    return {"punched"} if one is other is Nat.EASY else {"relay"}


def shown(seconds: float | None) -> str:
    return f"{seconds:5.2f} s" if seconds is not None else "      -"


def row(one: Nat, other: Nat, answers: bool, found: dict[str, Any]) -> str:
    routers = "answering" if answers else "silent"
    return (
        f"{one:<10} {other:<10} {routers:<10} {found['first_path']:<8} {found['path']:<8} "
        f"{shown(found['linked_s'])} {shown(found['first_token_s'])} {shown(found['direct_s'])}"
    )


def test_every_pair_of_routers_answers_by_the_best_way_there_is(
    internet: Internet, servers: dict[str, RunningNode], tmp_path: Path
) -> None:
    lines, wrong = [], []
    for answers in (False, True):
        for one, other in itertools.product(Nat, Nat):
            names = [
                site_name(role, nat, answers and nat is not Nat.NONE)
                for role, nat in (("ask", one), ("serve", other))
            ]
            found = ask(internet, names[0], servers[names[1]], tmp_path / f"{answers}{one}{other}")
            lines.append(row(one, other, answers, found))
            print(lines[-1], flush=True)
            if found["path"] not in expected(one, other):
                wrong.append(lines[-1])
    print("asks       serves     routers    first    path      linked  answer  direct")
    print("\n".join(lines))
    assert not wrong


def test_where_both_allow_it_a_port_of_a_symmetric_router_is_guessed(
    internet: Internet, servers: dict[str, RunningNode], tmp_path: Path
) -> None:
    wrong = []
    for answers, (one, other) in itertools.product((False, True), itertools.permutations(GUESSED)):
        server = servers[site_name("serve", other, answers)]
        before = len(server.log())
        directory = tmp_path / f"{answers}{one}{other}"
        asking = site_name("ask", one, answers)
        found = ask(internet, asking, server, directory, "--guess-ports", patience_s=GUESSING_S)
        logs = found["log"] + server.log()[before:]
        guesses = re.findall(r"found a port .* with \d+ guesses in [\d.]+ s", logs)
        print(row(one, other, answers, found), *guesses, flush=True)
        if found["path"] != "punched":
            print(logs)
            wrong.append(row(one, other, answers, found))
    assert not wrong


def test_two_symmetric_routers_stay_at_the_relay_whatever_users_allow(
    internet: Internet, servers: dict[str, RunningNode], tmp_path: Path
) -> None:
    asking, serving = (site_name(role, Nat.SYMMETRIC, False) for role in ("ask", "serve"))
    found = ask(internet, asking, servers[serving], tmp_path, "--guess-ports", patience_s=PATIENCE_S)
    print(row(Nat.SYMMETRIC, Nat.SYMMETRIC, False, found))
    assert found["path"] == "relay"
    assert "guess" not in found["log"]


def test_where_udp_is_blocked_the_answer_comes_by_a_websocket(
    internet: Internet, servers: dict[str, RunningNode], tmp_path: Path
) -> None:
    for nat in Nat:
        server = servers[site_name("serve", nat, False)]
        found = ask(internet, "ask-blocked", server, tmp_path / nat)
        print(
            f"{'UDP blocked':<21} {nat:<10} {found['first_path']:<9} {found['path']:<9} "
            f"{shown(found['linked_s'])} {shown(found['first_token_s'])}",
            flush=True,
        )
        assert found["path"] == "websocket"


@pytest.mark.parametrize(
    ("nat", "measured"),
    [
        (Nat.NONE, "no router stands before it"),
        (Nat.EASY, "keeps one port for all destinations"),
        (Nat.SYMMETRIC, "gives every destination another port (symmetric)"),
    ],
)
def test_the_doctor_tells_the_kind_of_router(internet: Internet, nat: Nat, measured: str) -> None:
    relays = [argument for address in RELAYS for argument in ("--relay", address)]
    host = internet.hosts[site_name("ask", nat, False)]
    done = host.gridnode("doctor", "network", "--json", "--no-port-mapping", *relays)
    [found] = [each for each in json.loads(done.stdout)["findings"] if each["check"] == "router"]
    assert measured in found["measured"]
    assert found["state"] == ("warn" if nat is Nat.SYMMETRIC else "ok")


def test_over_ipv6_nodes_meet_at_a_relay_and_go_direct(tmp_path: Path) -> None:
    made = [
        Site(name="relay-six", address="2001:db8::10", delay_s=0.02),
        Site(name="six", address="2001:db8:1::1"),
        Site(name="sechs", address="2001:db8:2::1"),
    ]
    arguments = ("--threads", "1", "--no-mdns", "--listen", "[::]:7338", "--relay", "[2001:db8::10]")
    with NetworkLab(tmp_path) as lab, Internet(lab, made) as internet, contextlib.ExitStack() as stack:
        stack.enter_context(relay(internet.hosts["relay-six"], "--listen", "[::]:7339"))
        nodes = [stack.enter_context(internet.hosts[name].up(*arguments)) for name in ("six", "sechs")]
        for node in nodes:
            node.wait_listening()
        took_s = eventually(
            lambda: [peer["path"] for node in nodes for peer in node.peers().values()] == ["direct"] * 2,
            timeout_s=ROUND_S + RETRY_S + ROUND_S + 30,
            hint=lambda: "".join(node.log() for node in nodes),
        )
        print(f"direct after {took_s:.1f} s")
