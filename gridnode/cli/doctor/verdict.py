"""The last line of the report. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from gridnode.cli.doctor.findings import Finding, Group, State, failures
from gridnode.cli.doctor.mapping import MappingFacts
from gridnode.cli.doctor.model import ModelFacts
from gridnode.cli.doctor.network import NetworkFacts
from gridnode.cli.doctor.relays import RelayVisit
from gridnode.control.readiness import readiness
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import is_loopback
from gridnode.units import format_seconds


def verdict(
    findings: Sequence[Finding],
    *,
    groups: Collection[Group],
    model: ModelFacts,
    network: NetworkFacts,
    mapping: MappingFacts,
    relays: Sequence[RelayVisit],
    status: NodeStatus | None,
) -> str:
    """Return what this computer can do for the swarm, in one sentence."""
    failed = failures(findings)
    warned = sum(finding.state is State.WARN for finding in findings)
    if failed:
        names = ", ".join(dict.fromkeys(finding.check for finding in failed))
        return f"Not ready: {len(failed)} of {len(findings)} checks fail ({names})."
    notes = [_reach(network), *_reach_from_afar(mapping, relays)]
    if warned:
        notes.append(f"{warned} warning{'s' if warned > 1 else ''} above")
    said = _network() if set(groups) == {Group.NETWORK} else _ability(model, status)
    return f"{said}; {'; '.join(notes)}."


def _network() -> str:
    return "The network does all that a node needs"


def _ability(model: ModelFacts, status: NodeStatus | None) -> str:
    if status is not None:
        found = readiness(status)
        return f"The node that runs is {'ready' if found.ready else 'not ready yet'}: {found.reason}"
    if model.span is None:
        return "Ready to answer through others, without blocks of its own"
    return f"Ready to serve {len(model.span)} blocks of {model.name} ({model.span} of {model.num_blocks})"


def _reach(network: NetworkFacts) -> str:
    if is_loopback(network.listen) or not network.addresses:
        return "no other computer reaches it"
    return f"others on its network reach it at {network.addresses[0]}"


def _reach_from_afar(mapping: MappingFacts, relays: Sequence[RelayVisit]) -> Iterator[str]:
    """Yield how nodes of other networks get here, if they do."""
    answering = [visit for visit in relays if not visit.problem]
    if mapping.status is not None and mapping.status.address:
        yield f"those on the Internet reach it at {mapping.status.address}"
    elif answering:
        nearest = min(answering, key=lambda visit: visit.rtt_s)
        rtt = format_seconds(nearest.rtt_s)
        yield f"those on the Internet meet it at relays, the nearest of which is {nearest.place} ({rtt})"
