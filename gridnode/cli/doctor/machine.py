"""Judging the computer: configuration, memory, cores, disks, the state directory, the clock. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.core.announcements import MAX_CLOCK_DIFFERENCE_S
from gridnode.core.politeness import Circumstances, Terms, objection
from gridnode.units import GIB, MIB, format_bytes, format_seconds

# Below this, clocks of healthy computers agree; above it, something does not set this one.
WORTH_TELLING_S = 30.0
# The log with its older files, and a year of history.
STATE_DIR_BYTES = 64 * MIB
# A disk with less makes other programs fail, too.
SPARE_DISK_BYTES = GIB

_finding = partial(Finding, group=Group.MACHINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One directory that the node writes to."""

    check: str
    path: Path
    free_bytes: int
    wanted_bytes: int
    """What the next start may add."""

    mend: str
    """The command that shows what could go."""

    reserve_bytes: int = 0
    """What the node leaves free, whatever it wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDir:
    """Where the identity and the log live."""

    path: Path
    problem: str = ""
    """Why a node cannot start with it."""

    holder_pid: int | None = None
    """The process whose node holds it, if that is the problem."""

    identity_problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What was measured of the computer."""

    config_problem: str
    """Why the configuration cannot be read; all else was then measured with the defaults."""

    python: str
    packages: dict[str, str]
    """Version of each library that computes; empty if it is not installed."""

    cores: int
    threads: int | None
    total_memory_bytes: int
    free_memory_bytes: int
    budget_bytes: int
    """What the node may use, see `gridnode.node.balancer.memory_budget_bytes`."""

    disks: tuple[Disk, ...]
    state_dir: StateDir
    running_pid: int | None
    """The node that answers at the door."""

    clock_offsets_s: tuple[float, ...]
    """How far the clocks of other nodes are ahead of this one."""

    is_clock_synchronized: bool | None
    """Whether the system sets its clock by the network; None if it does not tell."""

    platform: str
    """`linux` or `darwin`."""

    terms: Terms = field(default_factory=Terms)
    """When the node may serve."""

    circumstances: Circumstances | None = None
    """How the computer is now, if there are terms."""


def machine_findings(facts: MachineFacts) -> Iterator[Finding]:
    """Yield what is to be said of the computer."""
    yield _configuration(facts)
    yield _packages(facts)
    yield _memory(facts)
    yield _cores(facts)
    yield from map(_disk, facts.disks)
    yield _state_dir(facts.state_dir, facts.running_pid)
    yield _clock(facts)
    if facts.circumstances is not None:
        yield _when(facts.terms, facts.circumstances)


def _configuration(facts: MachineFacts) -> Finding:
    if facts.config_problem:
        return _finding(
            check="configuration",
            state=State.FAIL,
            measured=facts.config_problem,
            mend="gridnode config edit",
        )
    return _finding(check="configuration", state=State.OK, measured="every key is known and valid")


def _packages(facts: MachineFacts) -> Finding:
    missing = [name for name, version in facts.packages.items() if not version]
    found = ", ".join(f"{name} {version or 'missing'}" for name, version in facts.packages.items())
    return _finding(
        check="packages",
        state=State.FAIL if missing else State.OK,
        measured=f"Python {facts.python}, {found}",
        mend=f"pip install {' '.join(missing)}" if missing else "",
    )


def _memory(facts: MachineFacts) -> Finding:
    measured = (
        f"{format_bytes(facts.free_memory_bytes)} of {format_bytes(facts.total_memory_bytes)} free, "
        f"this node may use {format_bytes(facts.budget_bytes)}"
    )
    mend = "gridnode config unset limits.memory"
    if facts.budget_bytes > facts.total_memory_bytes:
        return _finding(check="memory", state=State.FAIL, measured=measured, mend=mend)
    if facts.running_pid is None and facts.budget_bytes > facts.free_memory_bytes:
        return _finding(check="memory", state=State.WARN, measured=measured, mend=mend)
    return _finding(check="memory", state=State.OK, measured=measured)


def _cores(facts: MachineFacts) -> Finding:
    threads = facts.threads or facts.cores
    measured = f"{facts.cores} cores, the engine worker takes {threads} threads"
    if threads > facts.cores:
        # Threads that wait for each other's core are slower than fewer of them.
        return _finding(
            check="cores", state=State.WARN, measured=measured, mend="gridnode config unset limits.threads"
        )
    return _finding(check="cores", state=State.OK, measured=measured)


def _disk(disk: Disk) -> Finding:
    measured = f"{format_bytes(disk.free_bytes)} free at {disk.path}"
    if disk.wanted_bytes:
        measured += f", up to {format_bytes(disk.wanted_bytes)} wanted"
    state = State.OK
    reserve_bytes = disk.reserve_bytes if disk.wanted_bytes else 0
    if disk.free_bytes < disk.wanted_bytes + max(SPARE_DISK_BYTES, reserve_bytes):
        state = State.FAIL if disk.free_bytes < disk.wanted_bytes + reserve_bytes else State.WARN
    return _finding(
        check=disk.check, state=state, measured=measured, mend="" if state is State.OK else disk.mend
    )


def _state_dir(found: StateDir, running_pid: int | None) -> Finding:
    if found.identity_problem:
        mend = f"chmod 600 {found.path}/identity.pem"
        return _finding(check="state directory", state=State.FAIL, measured=found.identity_problem, mend=mend)
    if not found.problem:
        return _finding(check="state directory", state=State.OK, measured=f"{found.path} can be written")
    if found.holder_pid is None:
        mend = f"sudo chown -R $USER {found.path}"
        return _finding(check="state directory", state=State.FAIL, measured=found.problem, mend=mend)
    if found.holder_pid == running_pid:
        measured = f"{found.path} is held by the node that runs (process {running_pid})"
        return _finding(check="state directory", state=State.OK, measured=measured)
    return _finding(
        check="state directory", state=State.FAIL, measured=found.problem, mend=f"kill {found.holder_pid}"
    )


def _when(terms: Terms, seen: Circumstances) -> Finding:
    unknown, why = seen.unknown(terms), objection(terms, seen)
    measured = f"a node pauses now: {why}" if why else "a node may serve now"
    if unknown:
        measured += (
            f"; this computer does not tell enough for {', '.join(unknown)}, so that it does not count"
        )
        mend = f"gridnode config unset {unknown[0]}"
        return _finding(check="when to serve", state=State.WARN, measured=measured, mend=mend)
    return _finding(check="when to serve", state=State.OK, measured=measured)


def _clock(facts: MachineFacts) -> Finding:
    is_mac = facts.platform == "darwin"
    mend = "sudo sntp -sS time.apple.com" if is_mac else "sudo timedatectl set-ntp true"
    offset_s = _typical(facts.clock_offsets_s)
    if offset_s is None:
        if facts.is_clock_synchronized is False:
            measured = "nothing sets it by the network, and no other node was there to compare it with"
            return _finding(check="clock", state=State.WARN, measured=measured, mend=mend)
        known = "set by the network" if facts.is_clock_synchronized else "no other node to compare it with"
        return _finding(check="clock", state=State.OK, measured=known)
    how = "behind" if offset_s > 0 else "ahead of"
    others = f"{len(facts.clock_offsets_s)} other node{'s' if len(facts.clock_offsets_s) > 1 else ''}"
    if abs(offset_s) < 1.0:
        return _finding(check="clock", state=State.OK, measured=f"agrees with {others}")
    limit = f"swarms allow {format_seconds(MAX_CLOCK_DIFFERENCE_S)}"
    measured = f"{format_seconds(abs(offset_s))} {how} {others}; {limit}"
    if abs(offset_s) > MAX_CLOCK_DIFFERENCE_S:
        return _finding(check="clock", state=State.FAIL, measured=measured, mend=mend)
    if abs(offset_s) > WORTH_TELLING_S:
        return _finding(check="clock", state=State.WARN, measured=measured, mend=mend)
    return _finding(check="clock", state=State.OK, measured=measured)


def _typical(offsets_s: Sequence[float]) -> float | None:
    """Return the median: one node whose clock is wrong does not blame this one."""
    return sorted(offsets_s)[len(offsets_s) // 2] if offsets_s else None
