"""Judging the relays of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.core.addresses import Address
from gridnode.units import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayVisit:
    """What came of registering with a relay."""

    place: Address
    problem: str = ""
    """Why that did not work; empty if it did."""

    rtt_s: float = 0.0
    by_tcp: bool = False
    """Whether it took a WebSocket, because UDP did not get there."""

    observed: Address | None = None
    """Where the relay sees this computer."""


def relay_findings(visits: Sequence[RelayVisit]) -> Iterator[Finding]:
    """Yield a line for each relay. Others of the list do as well as one that does not answer."""
    is_cut_off = all(visit.problem for visit in visits)
    for visit in visits:
        yield _relay(visit, is_cut_off=is_cut_off)


def _relay(visit: RelayVisit, *, is_cut_off: bool) -> Finding:
    state, mend = State.OK, ""
    if visit.problem:
        state = State.FAIL if is_cut_off else State.WARN
        measured = f"the relay at {visit.place} cannot be used: {visit.problem}"
        mend = f"gridnode relay --listen 0.0.0.0:{visit.place.port}  # at {visit.place.host}"
    elif visit.by_tcp:
        state, mend = State.WARN, "sudo nft list ruleset"
        measured = (
            f"the relay at {visit.place} answers in {format_seconds(visit.rtt_s)}, but by TCP only: "
            "something drops UDP on the way, so that other nodes are reached slowly or not at all"
        )
    else:
        seen = f", and sees this computer at {visit.observed}" if visit.observed else ""
        measured = f"the relay at {visit.place} answers in {format_seconds(visit.rtt_s)}{seen}"
    return Finding(group=Group.NETWORK, check="relay", state=state, measured=measured, mend=mend)
