"""Judging the services of systemd. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gridnode.cli.doctor.findings import Finding, Group, State

_finding = partial(Finding, group=Group.SERVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What systemd says of one unit, in its own words."""

    is_user: bool
    load_state: str
    active_state: str
    sub_state: str = ""
    result: str = "success"
    file_state: str = ""
    """`enabled` if it starts with the computer."""

    watchdog_s: float = 0.0
    restarts: int = 0

    @property
    def is_installed(self) -> bool:
        """Whether there is such a unit."""
        return self.load_state not in ("not-found", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """What was found of the services."""

    has_systemd: bool
    units: tuple[Unit, ...] = ()


def service_findings(facts: ServiceFacts) -> Iterator[Finding]:
    """Yield what is to be said of the services."""
    if not facts.has_systemd:
        measured = "systemd does not run here: the node runs while 'gridnode up' does"
        yield _finding(check="service", state=State.OK, measured=measured)
        return
    installed = [unit for unit in facts.units if unit.is_installed]
    if not installed:
        yield _finding(
            check="service",
            state=State.OK,
            measured="none is installed: the node runs while 'gridnode up' does",
        )
    for unit in installed:
        yield _unit(unit)
        if unit.active_state == "active":
            yield _watchdog(unit)


def _unit(unit: Unit) -> Finding:
    scope, sudo = (" --user", "") if unit.is_user else ("", "sudo ")
    check = "service of yours" if unit.is_user else "service"
    restarted = f", restarted {unit.restarts} times" if unit.restarts else ""
    if unit.active_state == "failed":
        return _finding(
            check=check,
            state=State.FAIL,
            measured=f"it failed: {unit.result}{restarted}; journalctl{scope} -u gridnode says why",
            mend=f"{sudo}systemctl{scope} restart gridnode",
        )
    if unit.active_state != "active" and unit.active_state != "activating":
        return _finding(
            check=check,
            state=State.WARN,
            measured=f"it is installed, and {unit.active_state}",
            mend=f"{sudo}systemctl{scope} start gridnode",
        )
    shown = (
        unit.active_state
        if unit.active_state == unit.sub_state
        else f"{unit.active_state} ({unit.sub_state})"
    )
    if unit.file_state == "disabled":
        mend = f"{sudo}systemctl{scope} enable gridnode"
        measured = f"it is {shown}{restarted}, and does not start with the computer"
        return _finding(check=check, state=State.WARN, measured=measured, mend=mend)
    return _finding(check=check, state=State.OK, measured=f"it is {shown}{restarted}")


def _watchdog(unit: Unit) -> Finding:
    if not unit.watchdog_s:
        scope, sudo = ("--user ", "") if unit.is_user else ("", "sudo ")
        return _finding(
            check="watchdog",
            state=State.WARN,
            measured="none watches: a node that stands still is not restarted",
            mend=f"{sudo}gridnode service install {scope}".strip(),
        )
    measured = f"a node that stands still for {unit.watchdog_s:.0f} s is restarted"
    return _finding(check="watchdog", state=State.OK, measured=measured)
