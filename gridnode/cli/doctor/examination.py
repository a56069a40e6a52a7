"""Collecting all facts, and what follows from them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gridnode.cli.doctor.findings import Diagnosis, Finding, Group
from gridnode.cli.doctor.machine import MachineFacts, machine_findings
from gridnode.cli.doctor.machine_facts import look_at_state_dir, measure_machine
from gridnode.cli.doctor.mapping import MappingFacts, mapping_findings
from gridnode.cli.doctor.mapping_facts import look_at_mapping
from gridnode.cli.doctor.model import ModelFacts, model_findings
from gridnode.cli.doctor.model_facts import find_model
from gridnode.cli.doctor.network import NetworkFacts, network_findings
from gridnode.cli.doctor.network_facts import measure_network
from gridnode.cli.doctor.relay_facts import visit_relays
from gridnode.cli.doctor.relays import RelayVisit, relay_findings
from gridnode.cli.doctor.router import router_findings
from gridnode.cli.doctor.service import ServiceFacts, service_findings
from gridnode.cli.doctor.service_facts import ask_systemd
from gridnode.cli.doctor.swarm import SwarmFacts, swarm_findings
from gridnode.cli.doctor.swarm_facts import ask_door, call_on_swarm
from gridnode.cli.doctor.verdict import verdict
from gridnode.config import NodeConfig
from gridnode.config.layers import Given, Layer, merge, to_node_config
from gridnode.config.sources import read_sources
from gridnode.core.ids import PeerId
from gridnode.errors import BadInput, KeyRefused
from gridnode.net.identity import IDENTITY_FILE, Identity, load_or_create_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was measured."""

    config: NodeConfig
    machine: MachineFacts
    network: NetworkFacts
    mapping: MappingFacts
    relays: tuple[RelayVisit, ...] = ()
    """In the order of the configuration."""

    swarm: SwarmFacts
    model: ModelFacts
    service: ServiceFacts


def read_values(flags: Layer) -> tuple[dict[str, Given], str]:
    """Return the configuration, and why it cannot be used; what then counts are the defaults."""
    try:
        values = read_sources(os.environ, flags)
        to_node_config(values)
    except BadInput as exc:
        return merge(), str(exc)
    return values, ""


async def examine(config: NodeConfig, *, config_problem: str = "") -> Facts:
    """Measure everything. Takes some seconds when somebody does not answer. Cancelling is safe."""
    status, door_error = await ask_door(config)
    state_dir = look_at_state_dir(config.state_dir)
    # A node whose door refuses us runs all the same: what it holds is no problem.
    running_pid = (
        status.pid if status else state_dir.holder_pid if isinstance(door_error, KeyRefused) else None
    )
    # What others hold is looked at first: calling on nodes takes ports of its own.
    network = measure_network(
        config, running_pid=running_pid, running_listen=status.listen if status else str(config.listen)
    )
    swarm, relays, mapping = await asyncio.gather(
        call_on_swarm(config, status, door_error),
        visit_relays(config.relay),
        look_at_mapping(config, status, listen=network.listen, running_pid=running_pid),
    )
    model = await asyncio.to_thread(find_model, config, swarm.heard(), status, me=_me(config))
    machine = measure_machine(
        config,
        config_problem=config_problem,
        state_dir=state_dir,
        running_pid=running_pid,
        span_bytes=model.span_bytes if model.is_cached and not model.is_serving else 0,
        fetch_bytes=model.missing_bytes,
        clock_offsets_s=tuple(v.clock_offset_s for v in swarm.visits if v.clock_offset_s is not None),
    )
    return Facts(
        config=config,
        machine=machine,
        network=network,
        mapping=mapping,
        relays=relays,
        swarm=swarm,
        model=model,
        service=ask_systemd(),
    )


def diagnose(facts: Facts, groups: Collection[Group] = tuple(Group)) -> Diagnosis:
    """Return what follows from `facts`. Pure."""
    found = (
        *machine_findings(facts.machine),
        *network_findings(facts.network),
        *mapping_findings(facts.mapping, facts.relays),
        *relay_findings(facts.relays),
        *_router_findings(facts),
        *swarm_findings(facts.swarm),
        *model_findings(facts.model),
        *service_findings(facts.service),
    )
    findings = tuple(finding for finding in found if finding.group in groups)
    return Diagnosis(
        verdict=verdict(
            findings,
            groups=groups,
            model=facts.model,
            network=facts.network,
            mapping=facts.mapping,
            relays=facts.relays,
            status=facts.swarm.status,
        ),
        findings=findings,
    )


def _router_findings(facts: Facts) -> Iterator[Finding]:
    own_hosts = {*(address.host for address in facts.network.addresses), *facts.network.ipv6_hosts}
    mapping = facts.mapping.status
    return router_findings(
        facts.relays, own_hosts=own_hosts, is_mapped=mapping is not None and bool(mapping.address)
    )


def _me(config: NodeConfig) -> PeerId:
    """Return who this node is; before its first start, somebody whom nobody knows."""
    try:
        if (config.state_dir / IDENTITY_FILE).exists():
            return load_or_create_identity(config.state_dir).peer_id
    except (BadInput, OSError):
        pass  # the check of the state directory tells
    return Identity.generate().peer_id
