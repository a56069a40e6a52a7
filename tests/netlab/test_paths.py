"""What happens to an answer when the way between its two hops changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from nat_lab import Internet, Nat, RunningRelay, Site, relay, why_not
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
HOMES = ("203.0.113.2", "203.0.113.3")
NUM_TOKENS = 200
# What is promised.
STALL_S = 2.0


@dataclass
class Pair:
    """Two nodes in two homes, each with half of the blocks, and two relays."""

    internet: Internet
    nodes: list[RunningNode]
    relays: list[RunningRelay]
    expected: list[int]
    quiet_s: float = 0.0
    """The longest time without a token while nothing happens: other tests run on the same cores."""

    @property
    def longest_s(self) -> float:
        """How long an answer may stand still."""
        return STALL_S + 5 * self.quiet_s

    def paths(self) -> set[str]:
        return {peer["path"] for node in self.nodes for peer in node.peers().values()}

    def wait_path(self, path: str) -> float:
        return eventually(
            lambda: self.paths() == {path}, timeout_s=ROUND_S + RETRY_S + ROUND_S + 30, hint=self.logs
        )

    def logs(self) -> str:
        return "\n".join(f"--- {node.host.name}\n{node.log()}" for node in self.nodes)

    def answer(self, disturb: Callable[[], None]) -> float:
        """Ask, disturb, check the answer; return the longest time without a token behind the disturbance."""
        with self.nodes[0].asking(NUM_TOKENS) as answer:
            tokens = next(answer)
            while len(tokens) < 20:
                tokens += next(answer)
            before = time.monotonic()
            disturb()
            stall_s = 0.0
            for more in answer:
                tokens += more
                stall_s, before = max(stall_s, time.monotonic() - before), time.monotonic()
        assert tokens == self.expected, self.logs()
        return stall_s


@contextlib.contextmanager
def running_pair(directory: Path, model: Path, nat: Nat) -> Iterator[Pair]:
    sites = [Site(name=f"relay{i}", address=address, delay_s=0.01) for i, address in enumerate(RELAYS)]
    sites += [
        Site(name=f"home{i}", nat=nat, address=address, delay_s=0.002) for i, address in enumerate(HOMES)
    ]
    arguments = ("--model", str(model), "--threads", "1", "--no-mdns")
    named = [argument for address in RELAYS for argument in ("--relay", address)]
    with (
        NetworkLab(directory) as lab,
        Internet(lab, sites) as internet,
        contextlib.ExitStack() as stack,
    ):
        relays = [stack.enter_context(relay(internet.hosts[f"relay{i}"])) for i in range(len(RELAYS))]
        nodes = [
            stack.enter_context(internet.hosts[f"home{i}"].up(*arguments, *named, "--blocks", blocks))
            for i, blocks in enumerate(("0:2", "2:4"))
        ]
        for node in nodes:
            node.wait_listening()
        pair = Pair(internet, nodes, relays, [])
        for node in nodes:
            eventually(
                lambda node=node: any(model["route"] for model in node.status()["models"]),
                timeout_s=120,
                hint=pair.logs,
            )
        with nodes[0].asking(NUM_TOKENS) as undisturbed:
            pair.expected = [token for tokens in undisturbed for token in tokens]
        assert len(pair.expected) == NUM_TOKENS
        pair.quiet_s = pair.answer(lambda: None)
        yield pair


def cut(pair: Pair) -> None:
    for i in range(len(HOMES)):
        pair.internet.cut(f"home{i}", HOMES[1 - i])


def heal(pair: Pair) -> None:
    for i in range(len(HOMES)):
        pair.internet.heal(f"home{i}")


def cutting_the_direct_way_moves_an_answer_to_the_relay(pair: Pair) -> None:
    pair.wait_path("punched")
    stall_s = pair.answer(lambda: cut(pair))
    print(f"\ncut in both directions: the answer stood still for at most {stall_s:.2f} s")
    pair.wait_path("relay")
    assert stall_s < pair.longest_s


def a_direct_way_that_appears_takes_an_answer_over(pair: Pair) -> None:
    pair.wait_path("relay")

    def appear() -> None:
        heal(pair)
        # Something has changed at home: that is when nodes look again at once.
        pair.nodes[1].host.ip("addr", "add", "192.168.1.77/24", "dev", "eth0")

    stall_s = pair.answer(appear)
    assert pair.paths() == {"punched"}, pair.logs()
    print(f"\nrelay to direct: the answer stood still for at most {stall_s:.2f} s")
    assert stall_s < pair.longest_s


def cutting_one_direction_of_the_direct_way_moves_an_answer_too(pair: Pair) -> None:
    pair.wait_path("punched")
    stall_s = pair.answer(lambda: pair.internet.cut("home0", HOMES[1]))
    print(f"\ncut in one direction: the answer stood still for at most {stall_s:.2f} s")
    heal(pair)
    assert stall_s < pair.longest_s
    pair.nodes[1].host.ip("addr", "del", "192.168.1.77/24", "dev", "eth0")
    pair.wait_path("punched")


def a_node_that_changes_its_address_keeps_its_sessions(pair: Pair) -> None:
    pair.wait_path("punched")
    host = pair.nodes[1].host

    def move() -> None:
        host.ip("addr", "del", "192.168.1.2/24", "dev", "eth0")
        host.ip("addr", "add", "192.168.1.9/24", "dev", "eth0")
        host.ip("route", "replace", "default", "via", "192.168.1.1")

    stall_s = pair.answer(move)
    print(f"\na new address: the answer stood still for at most {stall_s:.2f} s")
    assert "trying another" not in pair.logs()


def relays_that_die_do_not_end_an_answer_on_a_direct_way(pair: Pair) -> None:
    pair.wait_path("punched")
    for each in pair.relays:
        stall_s = pair.answer(each.kill)
        print(f"\na relay was killed: the answer stood still for at most {stall_s:.2f} s")
        assert stall_s < pair.longest_s
    assert pair.paths() == {"punched"}
    pair.answer(lambda: None)


def test_answers_outlive_what_happens_to_the_way(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path
) -> None:
    """One after the other on the same two homes: each leaves behind what the next one begins with."""
    with running_pair(tmp_path_factory.mktemp("homes"), tiny_llama, Nat.EASY) as pair:
        cutting_the_direct_way_moves_an_answer_to_the_relay(pair)
        a_direct_way_that_appears_takes_an_answer_over(pair)
        cutting_one_direction_of_the_direct_way_moves_an_answer_too(pair)
        a_node_that_changes_its_address_keeps_its_sessions(pair)
        relays_that_die_do_not_end_an_answer_on_a_direct_way(pair)


def test_a_relayed_answer_outlives_the_relay_that_it_uses(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path
) -> None:
    with running_pair(tmp_path_factory.mktemp("symmetric"), tiny_llama, Nat.SYMMETRIC) as pair:
        pair.wait_path("relay")
        addresses = {peer["address"].split(":")[0] for peer in pair.nodes[0].peers().values()}
        [used] = addresses
        stall_s = pair.answer(pair.relays[RELAYS.index(used)].kill)
        print(f"\nthe relay in use was killed: the answer stood still for at most {stall_s:.2f} s")
        assert stall_s < pair.longest_s
        assert pair.paths() == {"relay"}
