"""Computers come, go, sleep and move while somebody chats: every answer is whole, and nothing is left of it.

A short version runs with the other tests. The long one:

    SOAK_S=1200 SOAK_SEED=7 pytest -s tests/netlab/test_soak.py
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from network_lab import Host, NetworkLab, RunningNode, why_not
from waiting import eventually

from gridnode.net.discovery import CHECK_INTERVAL_S, TTL_S

pytestmark = [
    pytest.mark.netlab,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.timeout(3600),
]

SOAK_S = float(os.environ.get("SOAK_S", "45"))
SEED = int(os.environ.get("SOAK_SEED", "2"))
NUM_GUESTS = 3
ANSWER_TOKENS = 120
# A computer that sleeps for longer than links bear silence is one that has left.
LONGEST_SLEEP_S = 6.0
# What the caches of a Python process may still take after its first minute of work.
MAX_GROWTH = 1.25
# Who died said no goodbye: this node follows its announcement on the LAN, and dials it, until that expires.
SETTLED_S = TTL_S + CHECK_INTERVAL_S + 30.0
# Who asks for the status has a connection and a task or two for that.
SLACK = {"tasks": 3, "sockets": 1, "descriptors": 3}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[NetworkLab]:
    with NetworkLab(tmp_path) as made:
        yield made


@dataclass
class Guest:
    """A computer that serves the second half of the model now and then."""

    host: Host
    number: int
    model: Path
    address: str
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    node: RunningNode | None = None

    def start(self) -> None:
        arguments = ("--model", str(self.model), "--blocks", "2:4", "--threads", "1")
        self.node = self.stack.enter_context(self.host.up(*arguments))
        self.node.wait_listening()

    def leave(self) -> None:
        self.stack.close()
        self.node = None

    def die(self) -> None:
        assert self.node is not None
        self._signal(signal.SIGKILL)
        self.node.process.wait()
        self.leave()

    def sleep(self, seconds: float) -> None:
        self._signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._signal(signal.SIGCONT)

    def move(self, number: int) -> None:
        self.host.ip("addr", "del", f"{self.address}/24", "dev", "eth0")
        self.address = f"192.168.5.{number}"
        self.host.ip("addr", "add", f"{self.address}/24", "dev", "eth0")

    def _signal(self, number: signal.Signals) -> None:
        """Reach the node and its engine worker."""
        assert self.node is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.node.process.pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(number)


class Chatter(threading.Thread):
    """Asks the same question again and again, and compares the answers."""

    def __init__(self, node: RunningNode, expected: list[int]) -> None:
        super().__init__(name="chatter")
        self._node = node
        self._expected = expected
        self._has_to_end = threading.Event()
        self.answers = 0
        self.refusals = 0
        self.trouble: list[str] = []

    def run(self) -> None:
        while not self._has_to_end.is_set():
            try:
                with self._node.asking(ANSWER_TOKENS) as answer:
                    tokens = [token for more in answer for token in more]
            except AssertionError as exc:
                self.trouble.append(str(exc)[:3000])  # the event comes first, the log behind it
                return
            if not tokens:  # nobody serves half of the blocks now: refused at once, not broken off
                self.refusals += 1
                self._has_to_end.wait(0.2)
                continue
            if tokens != self._expected:
                self.trouble.append(f"{len(tokens)} tokens, others than the first time")
                return
            self.answers += 1

    def stop(self) -> None:
        self._has_to_end.set()
        self.join()


def figures(node: RunningNode) -> dict[str, int]:
    """Return what may not grow."""
    status = node.status()
    process = psutil.Process(node.process.pid)
    descriptors = []
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            descriptors.append(str(path.readlink()))
    return {
        "tasks": status["tasks"],
        "streams": status["open_streams"],
        "sessions": status["open_sessions"],
        "peers": len(status["peers"]),
        "sockets": sum(target.startswith("socket:") for target in descriptors),
        "descriptors": len(descriptors),
        "resident MB": process.memory_info().rss // 1_000_000,
    }


def test_nothing_is_left_of_computers_that_come_and_go(lab: NetworkLab, tiny_llama: Path) -> None:
    chance = random.Random(SEED)
    lan = lab.switch("soak")
    home = lab.host("home", eth0=(lan, "192.168.5.1/24"))
    guests = []
    for i in range(NUM_GUESTS):
        address = f"192.168.5.{10 + i}"
        host = lab.host(f"guest{i}", eth0=(lan, f"{address}/24"))
        guests.append(Guest(host, i, tiny_llama, address))
    free_numbers = iter(range(50, 250))
    done: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        arguments = ("--model", str(tiny_llama), "--blocks", "0:2", "--threads", "1")
        asked = stack.enter_context(home.up(*arguments))
        asked.wait_listening()
        for guest in guests:
            stack.callback(guest.leave)
        steady = guests[0]
        steady.start()
        eventually(lambda: has_route(asked), timeout_s=60, hint=asked.log)
        with asked.asking(ANSWER_TOKENS) as answer:
            expected = [token for more in answer for token in more]
        assert len(expected) == ANSWER_TOKENS
        steady.leave()
        eventually(lambda: figures(asked)["peers"] == 1, timeout_s=30, hint=asked.log)
        alone = figures(asked)
        steady.start()
        eventually(lambda: has_route(asked), timeout_s=60, hint=asked.log)

        chatter = Chatter(asked, expected)
        chatter.start()
        try:
            ends_at = time.monotonic() + SOAK_S
            while time.monotonic() < ends_at and not chatter.trouble:
                guest = chance.choice(guests)
                name, act = chance.choice(actions(guest, chance, free_numbers))
                # Somebody has to be there: a swarm without half of its blocks answers nobody.
                if name in ("leaves", "dies") and not is_replaced(guest, asked):
                    time.sleep(0.2)
                    continue
                act()
                done[name] += 1
                time.sleep(chance.uniform(0.5, 2.0))
        finally:
            chatter.stop()
        assert chatter.trouble == [], asked.log()[-6000:]
        for guest in guests:
            guest.leave()
        eventually(
            lambda: is_settled(alone, figures(asked)),
            timeout_s=SETTLED_S,
            hint=lambda: f"before {alone}\nafter  {figures(asked)}\n{asked.log()[-3000:]}",
        )
        after = figures(asked)
        print(f"seed {SEED}, {SOAK_S:.0f} s, {chatter.answers} answers, {chatter.refusals} refusals")
        print(dict(done))
        print(f"alone before: {alone}")
        print(f"alone after:  {after}")
        assert chatter.answers > 2
        assert after["resident MB"] <= alone["resident MB"] * MAX_GROWTH


def actions(
    guest: Guest, chance: random.Random, free_numbers: Iterator[int]
) -> list[tuple[str, Callable[[], None]]]:
    """Return what may happen to `guest` now."""
    if guest.node is None:
        return [("joins", guest.start)]
    return [
        ("leaves", guest.leave),
        ("dies", guest.die),
        ("sleeps", lambda: guest.sleep(chance.uniform(0.5, LONGEST_SLEEP_S))),
        ("moves", lambda: guest.move(next(free_numbers))),
    ]


def is_replaced(guest: Guest, asked: RunningNode) -> bool:
    """Return whether another one serves the same blocks."""
    assert guest.node is not None
    others = (peer for peer_id, peer in asked.peers().items() if peer_id != guest.node.peer_id)
    return any(peer["state"] == "online" for peer in others)


def has_route(node: RunningNode) -> bool:
    return any(model["route"] for model in node.status()["models"])


def is_settled(before: dict[str, int], after: dict[str, int]) -> bool:
    """Return whether everything that is counted is back where it was."""
    return all(after[name] <= before[name] + SLACK.get(name, 0) for name in before if name != "resident MB")
