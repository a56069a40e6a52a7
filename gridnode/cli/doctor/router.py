"""Judging what kind of router stands before this computer, by where relays see it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import partial

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.cli.doctor.relays import RelayVisit
from gridnode.core.addresses import is_loopback

_finding = partial(Finding, group=Group.NETWORK, check="router")


def router_findings(
    visits: Sequence[RelayVisit], *, own_hosts: Collection[str], is_mapped: bool
) -> Iterator[Finding]:
    """Yield a line for each address by which relays see this computer.

    Args:
        visits: From one socket, so that a router that keeps ports shows the same one to all relays.
        own_hosts: Addresses of this computer.
        is_mapped: Whether a port of the router leads here.
    """
    ports: defaultdict[str, list[int]] = defaultdict(list)
    for visit in visits:
        if not visit.problem and visit.observed is not None and not is_loopback(visit.observed):
            ports[visit.observed.host].append(visit.observed.port)
    for host, seen in ports.items():
        if host in own_hosts:
            measured = f"relays see this computer at its own address {host}: no router stands before it"
            yield _finding(state=State.OK, measured=measured)
        else:
            yield _behind_router(host, seen, is_mapped=is_mapped)


def _behind_router(host: str, ports: Sequence[int], *, is_mapped: bool) -> Finding:
    if len(set(ports)) > 1:
        measured = f"the router at {host} gives every destination another port (symmetric): "
        if is_mapped:
            return _finding(state=State.OK, measured=measured + "others come in by the port that it maps")
        return _finding(
            state=State.WARN,
            measured=f"{measured}nodes behind other routers are reached through relays only",
            mend="gridnode up --guess-ports  # on both sides, if the other router is not symmetric",
        )
    if len(ports) == 1:
        measured = f"a router stands before this computer, at {host}; a second relay would tell its kind"
    else:
        measured = f"the router at {host} keeps one port for all destinations: other nodes can be punched to"
    return _finding(state=State.OK, measured=measured)
