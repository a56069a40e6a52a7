"""The last line of the report. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gridnode.cli.doctor.findings import Finding, Group, State, failures
from gridnode.cli.doctor.model import ModelFacts
from gridnode.cli.doctor.network import NetworkFacts
from gridnode.control.readiness import readiness
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import is_loopback


def verdict(
    findings: Sequence[Finding],
    *,
    groups: Collection[Group],
    model: ModelFacts,
    network: NetworkFacts,
    status: NodeStatus | None,
) -> str:
    """Return what this computer can do for the swarm, in one sentence."""
    failed = failures(findings)
    warned = sum(finding.state is State.WARN for finding in findings)
    if failed:
        names = ", ".join(dict.fromkeys(finding.check for finding in failed))
        return f"Not ready: {len(failed)} of {len(findings)} checks fail ({names})."
    notes = [_reach(network)]
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
