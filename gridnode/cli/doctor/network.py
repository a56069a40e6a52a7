"""Judging the network of this computer: ports, UDP, addresses, multicast. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.core.addresses import Address, is_loopback
from gridnode.units import format_seconds

MACOS_BLOCKED = "macOS blocked this process from the local network (Privacy & Security > Local Network)"

_finding = partial(Finding, group=Group.NETWORK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Something that was sent from one address of this computer."""

    host: str
    problem: str = ""
    """Why it did not work; empty if it did."""

    error_number: int = 0
    """`errno`, if the system refused it."""

    rtt_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """What was measured of the network."""

    listen: Address
    """Where QUIC listens, or would."""

    udp_port_problem: str
    """Why QUIC cannot listen there; empty also if the running node does."""

    door: Address
    door_problem: str
    running_pid: int | None
    echoes: tuple[Attempt, ...]
    """Datagrams to this computer itself."""

    addresses: tuple[Address, ...]
    """Where others reach QUIC."""

    ipv6_hosts: tuple[str, ...]
    """Addresses by which this computer could be reached over IPv6."""

    ignored_interfaces: tuple[str, ...]
    """Those that connect only containers and virtual machines of this computer."""

    mdns: bool
    """Whether the configuration wants it."""

    multicasts: tuple[Attempt, ...]
    platform: str
    """`linux` or `darwin`."""


def network_findings(facts: NetworkFacts) -> Iterator[Finding]:
    """Yield what is to be said of the network."""
    yield _port("udp port", f"UDP {facts.listen}", facts.udp_port_problem, facts, "gridnode up --listen")
    yield _udp(facts)
    yield _addresses(facts)
    yield _ipv6(facts)
    yield _mdns(facts)
    yield _port("door", f"TCP {facts.door}", facts.door_problem, facts, "gridnode up --api")


def _port(check: str, shown: str, problem: str, facts: NetworkFacts, command: str) -> Finding:
    if problem:
        host = (facts.listen if check == "udp port" else facts.door).host
        mend = f"{command} {Address(host, 0)}"
        return _finding(check=check, state=State.FAIL, measured=problem, mend=mend)
    by = f"held by the node that runs (process {facts.running_pid})" if facts.running_pid else "free"
    return _finding(check=check, state=State.OK, measured=f"{shown} is {by}")


def _udp(facts: NetworkFacts) -> Finding:
    failed = [echo for echo in facts.echoes if echo.problem]
    if failed:
        measured = "no UDP: " + "; ".join(f"{echo.host}: {echo.problem}" for echo in failed)
        mend = "ip link set lo up" if failed[0].error_number == errno.ENETUNREACH else "sudo nft list ruleset"
        if facts.platform == "darwin":
            mend = "sudo pfctl -s rules"
        return _finding(check="udp", state=State.FAIL, measured=measured, mend=mend)
    measured = ", ".join(f"{echo.host} in {format_seconds(echo.rtt_s)}" for echo in facts.echoes)
    return _finding(check="udp", state=State.OK, measured=f"a datagram comes back from {measured}")


def _addresses(facts: NetworkFacts) -> Finding:
    ignored = f"; ignored: {', '.join(facts.ignored_interfaces)}" if facts.ignored_interfaces else ""
    if is_loopback(facts.listen):
        return _finding(
            check="addresses",
            state=State.WARN,
            measured=f"this node listens on {facts.listen}: no other computer reaches it{ignored}",
            mend="gridnode config unset swarm.listen",
        )
    if not facts.addresses:
        return _finding(
            check="addresses",
            state=State.WARN,
            measured=f"no interface leads to other computers: this node is alone{ignored}",
            mend="ifconfig" if facts.platform == "darwin" else "ip address",
        )
    shown = ", ".join(map(str, facts.addresses))
    return _finding(check="addresses", state=State.OK, measured=f"others reach this node at {shown}{ignored}")


def _ipv6(facts: NetworkFacts) -> Finding:
    if not facts.ipv6_hosts:
        measured = "this computer has no address of its own: IPv4 is used"
    elif ":" in facts.listen.host:
        measured = f"used, at {', '.join(facts.ipv6_hosts)}"
    else:
        measured = (
            f"there is {facts.ipv6_hosts[0]}, but the node listens on {facts.listen} only: IPv4 is used"
        )
        mend = f"gridnode up --listen '{Address('::', facts.listen.port)}'  # takes both"
        return _finding(check="ipv6", state=State.OK, measured=measured, mend=mend)
    return _finding(check="ipv6", state=State.OK, measured=measured)


def _mdns(facts: NetworkFacts) -> Finding:
    join = "gridnode up --join ADDRESS"
    if not facts.mdns:
        return _finding(check="mdns", state=State.OK, measured="switched off by the configuration")
    failed = [attempt for attempt in facts.multicasts if attempt.problem]
    is_blocked = any(attempt.error_number == errno.EHOSTUNREACH for attempt in failed)
    if facts.platform == "darwin" and is_blocked:
        settings = "open 'x-apple.systempreferences:com.apple.preference.security?Privacy_LocalNetwork'"
        return _finding(check="mdns", state=State.FAIL, measured=MACOS_BLOCKED, mend=settings)
    if not facts.multicasts:
        measured = "no interface carries multicast: nodes of this network do not find each other"
        return _finding(check="mdns", state=State.WARN, measured=measured, mend=join)
    if failed:
        measured = "; ".join(f"{attempt.host}: {attempt.problem}" for attempt in failed)
        state = State.WARN
        return _finding(check="mdns", state=state, measured=f"cannot be sent from {measured}", mend=join)
    hosts = ", ".join(attempt.host for attempt in facts.multicasts)
    return _finding(check="mdns", state=State.OK, measured=f"can be sent from {hosts}")
