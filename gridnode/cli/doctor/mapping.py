"""Judging whether the router of this network lets others in. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.cli.doctor.relays import RelayVisit
from gridnode.control.status_schema import PortMappingStatus
from gridnode.core.addresses import parse_address

_finding = partial(Finding, group=Group.NETWORK, check="port mapping")


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingFacts:
    """What came of asking the router to let others in."""

    unasked: str = ""
    """Why no router was asked; empty if one was."""

    port: int = 0
    """The UDP port of the node."""

    has_relays: bool = False
    """Whether others reach this node without the help of the router."""

    status: PortMappingStatus | None = None
    platform: str = "linux"
    """`linux` or `darwin`."""


def mapping_findings(facts: MappingFacts, relays: Sequence[RelayVisit]) -> Iterator[Finding]:
    """Yield what is to be said of the router."""
    status = facts.status
    if status is None:
        yield _finding(state=State.OK, measured=facts.unasked)
    elif status.address:
        yield _mapped(status, relays)
    elif status.problem:
        yield _unmapped(facts, status)
    else:
        measured = f"the node that runs here has asked the router {status.router}, which has not answered yet"
        yield _finding(state=State.OK, measured=measured)


def _mapped(status: PortMappingStatus, relays: Sequence[RelayVisit]) -> Finding:
    measured = f"the router {status.router} lets others in at {status.address}, by {status.protocol}"
    seen = {visit.observed.host for visit in relays if visit.observed}
    if seen and parse_address(status.address).host not in seen:
        measured += (
            f"; but relays see this computer at {', '.join(sorted(seen))}: another router stands before it"
        )
        mend = "gridnode up --no-port-mapping  # nobody gets in there; relays lead here all the same"
        return _finding(state=State.WARN, measured=measured, mend=mend)
    if status.problem:
        measured += f"; lately, {status.problem}"
    return _finding(state=State.OK, measured=measured)


def _unmapped(facts: MappingFacts, status: PortMappingStatus) -> Finding:
    # Relays lead here all the same, and most routers can be punched.
    state = State.OK if facts.has_relays else State.WARN
    measured = f"others on the Internet are not let in: {status.problem}"
    if status.router_is_hidden:
        mend = "gridnode up --relay HOST[:PORT]" if not facts.has_relays else ""
        measured += "; ask the provider for a public address, or use relays"
    else:
        opener = "open" if facts.platform == "darwin" else "xdg-open"
        mend = (
            f"{opener} http://{status.router}  # switch UPnP or NAT-PMP on, or forward UDP port {facts.port}"
        )
    return _finding(state=state, measured=measured, mend=mend)
