"""`gridnode up` on several computers of one LAN, with no address given to any of them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_lab import Host, NetworkLab, RunningNode, why_not
from waiting import eventually

from gridnode.core.models import QuantFormat
from gridnode.core.placement import blocks_that_fit
from gridnode.engine.locate import open_checkpoint
from gridnode.errors import NoCapacity
from gridnode.units import GIB, MIB

pytestmark = [pytest.mark.netlab, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

# What is promised.
FOUND_S = 3.0
# Links that die are noticed by silence after ten seconds at the latest.
GONE_S = 25.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkLab]:
    with NetworkLab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def hosts(lab: NetworkLab) -> tuple[Host, Host, Host]:
    """Three computers on one switch; the first one has a second network, and containers."""
    lan, other = lab.switch("lan"), lab.switch("other")
    first = lab.host("ada", eth0=(lan, "192.168.7.1/24"), eth1=(other, "10.7.0.1/16"))
    for bridge, address in (("docker0", "172.17.0.1/16"), ("inner", "172.18.0.1/16")):
        container = lab.namespace(bridge)
        first.ip("link", "add", bridge, "type", "bridge")
        first.ip("link", "add", f"veth-{bridge}", "type", "veth", "peer", "name", "eth0", "netns", container)
        first.ip("link", "set", f"veth-{bridge}", "master", bridge, "up")
        first.ip("addr", "add", address, "dev", bridge)
        first.ip("link", "set", bridge, "up")
    second = lab.host("bo", eth0=(lan, "192.168.7.2/24"))
    third = lab.host("cy", eth0=(lan, "192.168.7.3/24"))
    return first, second, third


@contextlib.contextmanager
def up(*starts: tuple[Host, tuple[str, ...]]) -> Iterator[list[RunningNode]]:
    """Start nodes at the same time; yield them when all listen."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(host.up(*arguments)) for host, arguments in starts]
        for node in nodes:
            node.wait_listening()
        yield nodes


def logs(*nodes: RunningNode) -> str:
    return "\n".join(f"--- {node.host.name}\n{node.log()}" for node in nodes)


def wait_found(*nodes: RunningNode) -> float:
    """Wait until all nodes are linked to all others; return the seconds since the last one listened."""
    return eventually(
        lambda: all(node.sees(*(other for other in nodes if other is not node)) for node in nodes),
        timeout_s=20,
        hint=lambda: logs(*nodes),
    )


def has_route(node: RunningNode) -> bool:
    """Return whether `node` could answer."""
    return any(model["route"] for model in node.status()["models"])


def memory_for(model: Path, num_blocks: int) -> int:
    """Return a budget into which `num_blocks` blocks fit, and not one more."""
    facts = open_checkpoint(str(model)).facts

    def fitting(memory_bytes: int) -> int:
        try:
            return blocks_that_fit(
                facts,
                QuantFormat.INT8,
                memory_bytes=memory_bytes,
                cache_tokens=8192,
                bytes_per_value=4,
                kv_bytes_per_value=4,
            )
        except NoCapacity:
            return 0

    # Steps that are smaller than a block with its cache.
    return next(size for size in range(600 * MIB, 2 * GIB, MIB // 2) if fitting(size) == num_blocks)


def test_two_computers_find_each_other_share_the_blocks_out_and_answer(
    hosts: tuple[Host, Host, Host], tiny_llama: Path
) -> None:
    arguments = ("--model", str(tiny_llama), "--memory", str(memory_for(tiny_llama, 2)), "--threads", "1")
    with up((hosts[1], arguments), (hosts[2], arguments)) as nodes:
        took_s = wait_found(*nodes)
        assert all(peer["path"] == "lan" for node in nodes for peer in node.peers().values())
        print(f"found each other {took_s:.2f} s after the second one listened")
        ready_s = eventually(
            lambda: all(has_route(node) for node in nodes),
            timeout_s=60,
            hint=lambda: logs(*nodes),
        )
        print(f"ready to answer {ready_s:.1f} s later")
        serving = [node.status()["peers"][0]["serving"] for node in nodes]
        assert sorted((each["start"], each["end"]) for each in serving) == [(0, 2), (2, 4)]
        answers = [node.host.gridnode("run", "--raw", "--max-tokens", "12", "Hello") for node in nodes]
        for answer in answers:
            assert answer.returncode == 0, answer.stderr + logs(*nodes)
        assert answers[0].stdout == answers[1].stdout != ""
        pinged = nodes[0].host.gridnode("ping", "--count", "1", nodes[1].peer_id[:8])
        assert re.fullmatch(r"pong from \w{8} by lan 192\.168\.7\.3:7338 in \S+ ms\n", pinged.stdout), pinged


def test_swarms_of_different_names_do_not_meet(hosts: tuple[Host, Host, Host]) -> None:
    home, lab_name = ("--swarm", "home"), ("--swarm", "lab")
    with up((hosts[0], home), (hosts[1], lab_name), (hosts[2], home)) as (a, b, c):
        wait_found(a, c)
        assert b.peers() == {}
        assert "belongs to swarm" not in logs(a, b, c)


def test_a_private_swarm_is_found_by_those_who_were_invited_and_by_nobody_else(
    hosts: tuple[Host, Host, Host], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.write_text(hosts[0].gridnode("invite", "--private").stdout)
    assert hosts[2].gridnode("join", f"@{link}").returncode == 0
    try:
        with up((hosts[0], ()), (hosts[1], ()), (hosts[2], ())) as (a, b, c):
            wait_found(a, c)
            assert b.peers() == {}
            # Its id on the LAN is another one: nobody even dials.
            assert "private swarm" not in logs(b)
            assert a.status()["swarm_is_private"]
            assert not b.status()["swarm_is_private"]
    finally:
        for host in hosts:
            for kept in host.home.rglob("swarm.json"):
                kept.unlink()


def test_a_goodbye_removes_a_node_at_once_and_a_restart_brings_it_back(
    hosts: tuple[Host, Host, Host],
) -> None:
    found_s = []
    with up((hosts[1], ())) as (a,):
        for _ in range(2):
            with up((hosts[2], ())) as (b,):
                found_s.append(wait_found(a, b))
                b.process.terminate()
                took_s = eventually(lambda: a.peers() == {}, timeout_s=5, hint=lambda: logs(a))
                print(f"gone {took_s:.2f} s after the signal")
                assert b.process.wait(timeout=20) == 0
    assert min(found_s) < FOUND_S  # of two: other tests run on the same cores


def test_a_killed_node_is_gone_soon(hosts: tuple[Host, Host, Host]) -> None:
    with up((hosts[1], ())) as (a,), up((hosts[2], ())) as (b,):
        wait_found(a, b)
        b.process.kill()
        took_s = eventually(lambda: a.peers() == {}, timeout_s=GONE_S, hint=lambda: logs(a))
        print(f"gone {took_s:.1f} s after kill -9")


def test_without_mdns_nobody_is_found_and_nobody_finds(hosts: tuple[Host, Host, Host]) -> None:
    with up((hosts[0], ()), (hosts[1], ("--no-mdns",)), (hosts[2], ())) as (a, b, c):
        wait_found(a, c)
        assert b.peers() == {}
        assert a.sees(c)


def test_bridges_of_containers_are_not_announced(hosts: tuple[Host, Host, Host]) -> None:
    with up((hosts[0], ()), (hosts[1], ())) as (a, b):
        wait_found(a, b)
        assert a.status()["addresses"] == ["192.168.7.1:7338", "10.7.0.1:7338"]
        assert "172.1" not in b.log()


def test_bind_chooses_the_interface(hosts: tuple[Host, Host, Host]) -> None:
    with up((hosts[0], ("--bind", "eth1")), (hosts[1], ("--bind", "192.168.7.2")), (hosts[2], ())) as (
        a,
        b,
        c,
    ):
        wait_found(b, c)
        assert a.status()["addresses"] == ["10.7.0.1:7338"]
        assert b.status()["addresses"] == ["192.168.7.2:7338"]
        assert a.peers() == {}


def test_every_address_of_a_computer_answers(lab: NetworkLab) -> None:
    """A laptop with cable and Wi-Fi is twice on one network: answers leave by the address that was asked."""
    lan = lab.switch("twice")
    laptop = lab.host("fay", eth0=(lan, "192.168.10.1/24"), eth1=(lan, "192.168.10.11/24"))
    others = [lab.host(name, eth0=(lan, f"192.168.10.{i}/24")) for name, i in (("guy", 2), ("hal", 3))]
    joins = [("--no-mdns", "--join", address) for address in ("192.168.10.1", "192.168.10.11")]
    with up((laptop, ("--no-mdns",))) as (one,), up(*zip(others, joins, strict=True)) as rest:
        took_s = wait_found(one, *rest)
        print(f"found {took_s:.1f} s")
        for node, (*_, address) in zip(rest, joins, strict=True):
            assert node.peers()[one.peer_id]["address"] == f"{address}:7338"


@pytest.mark.parametrize("has_ipv4", [True, False], ids=["both", "IPv6 only"])
def test_nodes_find_each_other_by_ipv6_if_told_to(lab: NetworkLab, has_ipv4: bool) -> None:
    lan = lab.switch(f"six{has_ipv4:d}")
    hosts = []
    for i in (1, 2):
        host = lab.host(f"s{has_ipv4:d}{i}", eth0=(lan, f"fd00:7::{i}/64"))
        if has_ipv4:
            host.ip("addr", "add", f"192.168.11.{i}/24", "dev", "eth0")
        hosts.append(host)
    with up(*((host, ("--listen", "[::]:7338")) for host in hosts)) as nodes:
        assert "[fd00:7::1]:7338" in nodes[0].status()["addresses"]
        wait_found(*nodes)
        expected = "192.168.11.1:7338" if has_ipv4 else "[fd00:7::1]:7338"
        assert [peer["address"] for peer in nodes[1].peers().values()] == [expected]


def test_a_cable_that_comes_later_is_noticed(lab: NetworkLab) -> None:
    lan = lab.switch("late")
    a, b = lab.host("dan", eth0=(lan, "192.168.8.1/24")), lab.host("eve")
    with up((a, ()), (b, ())) as (one, other):
        assert other.peers() == {}
        b.plug("eth0", lan, "192.168.8.2/24")
        took_s = wait_found(one, other)
        print(f"found {took_s:.1f} s after the cable was plugged in")


@pytest.mark.parametrize("mover", [0, 1], ids=["the one that was asked", "a hop"])
def test_an_answer_goes_on_when_a_computer_changes_its_address(
    lab: NetworkLab, tiny_llama: Path, mover: int
) -> None:
    lan = lab.switch(f"moving{mover}")
    hosts = [lab.host(f"m{mover}{i}", eth0=(lan, f"192.168.9.{i + 1}/24")) for i in range(2)]
    starts = [
        (host, ("--model", str(tiny_llama), "--blocks", blocks, "--threads", "1"))
        for host, blocks in zip(hosts, ("0:2", "2:4"), strict=True)
    ]
    with up(*starts) as nodes:
        eventually(lambda: all(has_route(node) for node in nodes), timeout_s=60, hint=lambda: logs(*nodes))
        with nodes[0].asking(800) as undisturbed:
            expected = [token for tokens in undisturbed for token in tokens]
        with nodes[0].asking(800) as answer:
            tokens = next(answer)
            hosts[mover].ip("addr", "del", f"192.168.9.{mover + 1}/24", "dev", "eth0")
            hosts[mover].ip("addr", "add", "192.168.9.77/24", "dev", "eth0")
            stall_s, before = 0.0, time.monotonic()
            moved_at = before
            for more in answer:
                tokens += more
                stall_s, before = max(stall_s, time.monotonic() - before), time.monotonic()
        print(f"{before - moved_at:.1f} s after the move, the answer stood still for at most {stall_s:.2f} s")
        assert tokens == expected, logs(*nodes)
        assert len(tokens) == 800
        assert stall_s < GONE_S
        assert before - moved_at > 0.5, "the answer was over too early to show anything"
        other = nodes[1 - mover]
        assert [peer["address"] for peer in other.peers().values()] == ["192.168.9.77:7338"], logs(*nodes)
