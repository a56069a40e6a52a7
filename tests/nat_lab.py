"""Homes behind routers on an Internet: for what is between nodes that are far from each other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import network_lab
from network_lab import Host, NetworkLab, ip

INTERNET = Path(__file__).with_name("internet.py")
# Every home has the same addresses, as in life.
LAN_HOST, LAN_ROUTER = "192.168.1.2", "192.168.1.1"


def why_not() -> str:
    """Return why there can be no homes here; empty if there can."""
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing"
    return network_lab.why_not()


class Nat(StrEnum):
    """What a router does to addresses."""

    NONE = "none"
    """There is no router: the host has a public address."""

    EASY = "easy"
    """One port outside for each inside, wherever packets go; strangers are kept out."""

    SYMMETRIC = "symmetric"
    """Another port, at random, for each destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A home, or a server."""

    name: str
    nat: Nat = Nat.NONE
    answers: bool = False
    """Whether the router itself answers packets that nobody asked for (with ICMP)."""

    address: str = ""
    """On the Internet."""

    delay_s: float = 0.01
    mbit_per_s: float = 100.0
    loss: float = 0.0


class Internet:
    """Sites that reach each other. A context manager that leaves nothing behind."""

    def __init__(self, lab: NetworkLab, sites: list[Site]) -> None:
        self.hosts: dict[str, Host] = {}
        self._lab = lab
        self._routers: dict[str, str] = {}
        self._specs: list[dict[str, Any]] = []
        self._process: subprocess.Popen[str] | None = None
        for site in sites:
            self._add(site)

    def __enter__(self) -> Internet:
        self._process = subprocess.Popen(
            [sys.executable, str(INTERNET), json.dumps(self._specs)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with self._process as process:
            process.kill()

    def _add(self, site: Site) -> None:
        host = self._lab.host(site.name)
        self.hosts[site.name] = host
        edge = host.namespace
        if site.nat is not Nat.NONE:
            edge = self._routers[site.name] = self._lab.namespace(f"{site.name}-router")
            ip(
                "link",
                "add",
                "eth0",
                "netns",
                host.namespace,
                "type",
                "veth",
                "peer",
                "name",
                "lan",
                "netns",
                edge,
            )
            ip("-n", edge, "addr", "add", f"{LAN_ROUTER}/24", "dev", "lan")
            ip("-n", edge, "link", "set", "lan", "up")
            host.ip("addr", "add", f"{LAN_HOST}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
            host.ip("route", "add", "default", "via", LAN_ROUTER)
            inside(edge, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            inside(edge, "nft", "-f", "-", stdin=_rules(site))
        self._specs.append(
            {
                "namespace": edge,
                "device": "wan",
                "address": site.address,
                "delay_s": site.delay_s,
                "mbit_per_s": site.mbit_per_s,
                "loss": site.loss,
            }
        )

    def router(self, name: str) -> str:
        """Return the namespace of the router of a site."""
        return self._routers[name]

    def block_udp(self, name: str) -> None:
        """Let the router of a site drop all UDP."""
        inside(self._routers[name], "nft", "insert rule ip filter through meta l4proto udp drop")

    def cut(self, name: str, address: str) -> None:
        """Let the router of a site drop what it sends to `address`, and what comes from there."""
        router = self._routers[name]
        for direction in ("daddr", "saddr"):
            inside(router, "nft", f"insert rule ip filter through ip {direction} {address} drop")

    def heal(self, name: str) -> None:
        """Undo `cut` and `block_udp` at the router of a site."""
        router = self._routers[name]
        listed = subprocess.run(
            ["ip", "netns", "exec", router, "nft", "-a", "list", "chain", "ip", "filter", "through"],
            capture_output=True,
            text=True,
            check=True,
        )
        for handle in re.findall(r"drop # handle (\d+)", listed.stdout):
            inside(router, "nft", f"delete rule ip filter through handle {handle}")


def inside(namespace: str, *command: str, stdin: str = "") -> None:
    """Run a command in a namespace; what it says stands in the error."""
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


def _rules(site: Site) -> str:
    masquerade = "masquerade" if site.nat is Nat.EASY else "masquerade random,fully-random"
    return f"""
table ip nat {{
  chain post {{
    type nat hook postrouting priority 100;
    oifname "wan" {masquerade}
  }}
}}
table ip filter {{
  chain through {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" accept
  }}
  chain own {{
    type filter hook input priority 0; policy {"accept" if site.answers else "drop"};
    ct state established,related accept
    iifname {{ "lan", "lo" }} accept
  }}
}}
"""


class RunningRelay:
    """A relay on a host of the lab."""

    def __init__(self, process: subprocess.Popen[str], peer_id: str) -> None:
        self.process = process
        self.peer_id = peer_id

    def kill(self) -> None:
        """Let it vanish without a word."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def relay(host: Host, *arguments: str) -> Iterator[RunningRelay]:
    """Run `gridnode relay` on a host."""
    host.home.mkdir(parents=True, exist_ok=True)
    with (host.home / "relay.txt").open("ab") as stderr:
        process = subprocess.Popen(
            host.command(
                sys.executable, "-m", "gridnode", "relay", "--json", "--log-level", "info", *arguments
            ),
            env=host.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (host.home / "relay.txt").read_text()
            yield RunningRelay(process, json.loads(line)["peer_id"])
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """Return variables for programs of the tests inside the lab."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
