"""What the doctor finds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Group(StrEnum):
    """What a finding is about, in the order of the report."""

    MACHINE = "machine"
    NETWORK = "network"
    SWARM = "swarm"
    MODEL = "model"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    group: Group
    """`machine`, `network`, `swarm`, `model` or `service`."""

    check: str
    """What was looked at: `udp port`, `clock`, `blocks`, ... Stays the same from version to version."""

    state: State
    """`ok`, `warn` or `fail`."""

    measured: str
    """What was found, with its numbers."""

    mend: str = ""
    """One command that mends it, or says more; empty if nothing is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """`doctor`."""

    verdict: str
    """What this computer can do for the swarm, in one sentence."""

    findings: tuple[Finding, ...]
    """In the order of the groups."""

    @property
    def fails(self) -> bool:
        """Whether something keeps the node from working."""
        return bool(failures(self.findings))


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """Return those that keep the node from working."""
    return [finding for finding in findings if finding.state is State.FAIL]
