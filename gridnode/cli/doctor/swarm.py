"""Judging the swarm: who runs, who answers, versions, gaps. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.commands import argument, up_command
from gridnode.control.readiness import readiness
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement
from gridnode.core.spans import Span
from gridnode.core.swarm import SwarmState
from gridnode.core.swarm_pass import SwarmPass
from gridnode.units import format_time
from gridnode.wire.messages import PROTOCOL_VERSION, understands

_finding = partial(Finding, group=Group.SWARM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a node said when it was called on."""

    address: Address
    is_joined: bool
    """Whether the configuration names it: one found otherwise may be gone again."""

    problem: str = ""
    """Why nothing was heard; empty if something was."""

    version: str = ""
    protocol: int = PROTOCOL_VERSION
    swarm: str = ""
    """Its name, if it is public."""

    refusal: str = ""
    """Why one side does not let the other in, if it answered."""

    announcements: tuple[Announcement, ...] = ()
    """What it knows of itself and others."""

    clock_offset_s: float | None = None
    """How far its clock is ahead of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmFacts:
    """What was heard of the swarm."""

    status: NodeStatus | None
    """Of the node that runs here, if one does."""

    door_problem: str
    """Why the door of a node that runs here does not answer; empty if no node runs."""

    needs_key: bool = False
    """Whether that is for want of the right key."""

    swarm: SwarmPass
    """What nodes must hold."""

    key_problem: str = ""
    """Why what this computer holds of it cannot be used."""

    version: str
    """Of this gridnode."""

    visits: tuple[Visit, ...]

    def heard(self) -> SwarmState:
        """Return the swarm as the visited nodes see it."""
        state = SwarmState()
        for visit in self.visits:
            for announcement in visit.announcements:
                if announcement.swarm == self.swarm.name:
                    state = state.apply(announcement, now=0.0)
        return state


def swarm_findings(facts: SwarmFacts) -> Iterator[Finding]:
    """Yield what is to be said of the swarm."""
    yield _node(facts)
    yield from _key(facts)
    yield from _joined(facts)
    yield from _peers(facts)
    yield _versions(facts)
    yield from _gaps(facts)


def _node(facts: SwarmFacts) -> Finding:
    if facts.door_problem:
        mend = "gridnode logs"
        if facts.needs_key:
            mend = "export GRIDNODE_API_KEY=$(gridnode keys create doctor)"
        return _finding(check="node", state=State.FAIL, measured=facts.door_problem, mend=mend)
    if facts.status is None:
        measured = "none runs here: this is what 'gridnode up' would meet"
        return _finding(check="node", state=State.OK, measured=measured)
    status = facts.status
    found = readiness(status)
    measured = f"{status.short} runs (process {status.pid}): {found.reason}"
    if status.engine.state == "failed":
        return _finding(check="node", state=State.FAIL, measured=measured, mend="gridnode logs")
    state = State.OK if found.ready else State.WARN
    return _finding(
        check="node", state=state, measured=measured, mend="" if found.ready else "gridnode status --watch"
    )


def _key(facts: SwarmFacts) -> Iterator[Finding]:
    check, swarm = "swarm key", facts.swarm
    if facts.key_problem:
        mend = "gridnode join -  # with what 'gridnode invite' prints on another node"
        yield _finding(check=check, state=State.FAIL, measured=facts.key_problem, mend=mend)
    elif swarm.ticket:
        use = "to serve blocks" if swarm.may_serve else "to chat only"
        until = format_time(swarm.ticket.grant.until_s)
        measured = f"this node is invited to the private swarm {swarm.name!r} {use}, until {until}"
        yield _finding(check=check, state=State.OK, measured=measured)
    elif swarm.keys:
        made = format_time(swarm.keys[0].made_s)
        measured = f"this node is a member of the private swarm {swarm.name!r}; its key was made at {made}"
        yield _finding(check=check, state=State.OK, measured=measured)
    if facts.status and facts.status.swarm_is_private != swarm.is_private and not facts.key_problem:
        measured = "the node that runs here has not taken over what changed since it started"
        mend = "gridnode down && gridnode up"
        yield _finding(check=check, state=State.WARN, measured=measured, mend=mend)


def _joined(facts: SwarmFacts) -> Iterator[Finding]:
    joined = [visit for visit in facts.visits if visit.is_joined]
    is_alone = all(visit.problem or visit.refusal for visit in joined)
    for visit in joined:
        if visit.problem:
            # Others of the list lead into the swarm as well.
            state = State.FAIL if is_alone else State.WARN
            mend = f"gridnode doctor network  # at {visit.address.host}"
            yield _finding(check="join", state=state, measured=visit.problem, mend=mend)
        elif visit.refusal and visit.swarm and not facts.swarm.is_private:
            yield _finding(
                check="join",
                state=State.FAIL,
                measured=f"{visit.address} belongs to swarm {visit.swarm!r}, "
                f"this node to {facts.swarm.name!r}",
                mend=f"gridnode config set swarm.name {argument(visit.swarm)}",
            )
        elif visit.refusal:
            yield _finding(
                check="swarm key",
                state=State.FAIL,
                measured=f"wrong key: {visit.refusal}",
                mend="gridnode join -  # with what 'gridnode invite' prints there",
            )
        else:
            measured = f"{visit.address} answers, and knows {len(visit.announcements)} nodes"
            yield _finding(check="join", state=State.OK, measured=measured)


def _peers(facts: SwarmFacts) -> Iterator[Finding]:
    if facts.status is None:
        return
    others = [peer for peer in facts.status.peers if not peer.is_self]
    if not others:
        mend = f"{up_command(join=facts.status.join_address)}  # on another computer"
        yield _finding(check="peers", state=State.WARN, measured="no other node is known", mend=mend)
        return
    lost = [peer for peer in others if peer.state == "unreachable"]
    if lost:
        why = "; ".join(f"{peer.short}: {peer.problem or 'does not answer'}" for peer in lost)
        measured = f"{len(lost)} of {len(others)} cannot be reached: {why}"
        mend = "gridnode doctor network  # on that computer"
        yield _finding(check="peers", state=State.WARN, measured=measured, mend=mend)
        return
    yield _finding(check="peers", state=State.OK, measured=f"all {len(others)} others can be reached")


def _versions(facts: SwarmFacts) -> Finding:
    heard = {ann.version for visit in facts.visits for ann in visit.announcements}
    heard |= {visit.version for visit in facts.visits}
    if facts.status is not None:
        heard |= {facts.status.version} | {peer.version for peer in facts.status.peers}
    heard -= {""}
    others = sorted(heard - {facts.version})
    protocols = {visit.protocol for visit in facts.visits} - {PROTOCOL_VERSION}
    mend = "pipx upgrade gridnode"
    if not all(map(understands, protocols)):
        spoken = ", ".join(map(str, sorted(protocols)))
        measured = f"others speak protocol {spoken}, this gridnode {PROTOCOL_VERSION}: they do not understand"
        return _finding(check="versions", state=State.FAIL, measured=measured, mend=mend)
    if others:
        measured = f"this gridnode is {facts.version}, others run {', '.join(others)}"
        return _finding(check="versions", state=State.WARN, measured=measured, mend=mend)
    measured = f"this gridnode is {facts.version}" + (", as all others are" if heard else "")
    return _finding(check="versions", state=State.OK, measured=measured)


def _gaps(facts: SwarmFacts) -> Iterator[Finding]:
    for model, num_blocks, gaps in _models(facts):
        if not gaps:
            measured = f"all {num_blocks} blocks of {model} are served"
            yield _finding(check="gaps", state=State.OK, measured=measured)
            continue
        missing = ", ".join(map(str, gaps))
        yield _finding(
            check="gaps",
            state=State.WARN,
            measured=f"blocks {missing} of 0:{num_blocks} of {model} are served by nobody",
            mend=up_command(model, blocks=str(gaps[0])),
        )


def _models(facts: SwarmFacts) -> Iterator[tuple[str, int, tuple[Span, ...]]]:
    """Yield every model with its number of blocks and its gaps."""
    if facts.status is not None:
        for found in facts.status.models:
            yield found.name, found.num_blocks, tuple(Span(start, end) for start, end in found.gaps)
        return
    swarm = facts.heard()
    for model, num_blocks in swarm.models().items():
        yield model.name, num_blocks, swarm.gaps(model, num_blocks)
