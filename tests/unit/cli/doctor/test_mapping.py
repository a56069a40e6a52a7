"""What the doctor says of the router."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gridnode.cli.doctor.findings import Finding, State
from gridnode.cli.doctor.mapping import MappingFacts, mapping_findings
from gridnode.cli.doctor.mapping_facts import look_at_mapping
from gridnode.cli.doctor.relays import RelayVisit
from gridnode.config import NodeConfig
from gridnode.control.status_schema import PortMappingStatus
from gridnode.core.addresses import Address

REFUSED = "the router 192.168.1.1 does not take NAT-PMP, and refuses by UPnP: Action not authorized"


def said(*relays: RelayVisit, address: str = "", problem: str = "", **facts: Any) -> Finding:
    is_hidden = facts.pop("router_is_hidden", False)
    status = PortMappingStatus(
        router="192.168.1.1",
        protocol="UPnP" if address else "",
        address=address,
        problem=problem,
        router_is_hidden=is_hidden,
    )
    [found] = mapping_findings(MappingFacts(port=7338, status=status, **facts), relays)
    assert found.check == "port mapping"
    return found


def visit(host: str) -> RelayVisit:
    return RelayVisit(place=Address("192.0.2.7", 7339), observed=Address(host, 50000))


def test_where_others_are_let_in_is_named() -> None:
    found = said(visit("8.8.4.4"), address="8.8.4.4:7338")
    assert found.state is State.OK
    assert found.measured == "the router 192.168.1.1 lets others in at 8.8.4.4:7338, by UPnP"


def test_a_router_that_relays_see_behind_another_one() -> None:
    found = said(visit("8.8.8.8"), address="8.8.4.4:7338")
    assert found.state is State.WARN
    assert "relays see this computer at 8.8.8.8: another router stands before it" in found.measured
    assert "--no-port-mapping" in found.mend


@pytest.mark.parametrize(("platform", "opener"), [("linux", "xdg-open"), ("darwin", "open")])
def test_a_router_that_refuses_is_to_be_opened(platform: str, opener: str) -> None:
    found = said(problem=REFUSED, platform=platform)
    assert found.state is State.WARN
    assert REFUSED in found.measured
    assert found.mend == f"{opener} http://192.168.1.1  # switch UPnP or NAT-PMP on, or forward UDP port 7338"


def test_beside_relays_a_router_that_refuses_is_no_problem() -> None:
    found = said(problem=REFUSED, has_relays=True)
    assert found.state is State.OK
    assert "forward UDP port 7338" in found.mend


def test_nothing_opens_a_router_behind_another_one() -> None:
    found = said(problem="it itself has the address 10.0.0.2", router_is_hidden=True)
    assert found.mend == "gridnode up --relay HOST[:PORT]"
    assert said(problem="it itself has 10.0.0.2", router_is_hidden=True, has_relays=True).mend == ""


def test_a_router_that_has_not_answered_yet() -> None:
    assert "has not answered yet" in said().measured


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "neither a relay nor a key"),
        ({"port_mapping": False}, "switched off by the configuration"),
        ({"port_mapping": True, "listen": Address("127.0.0.1", 7338)}, "no other computer reaches this node"),
        ({"port_mapping": True, "listen": Address("0.0.0.0", 0)}, "before the node has chosen its port"),
    ],
)
def test_why_no_router_is_asked(changes: dict[str, Any], why: str, tmp_path: Any) -> None:
    config = NodeConfig(state_dir=tmp_path, **changes)
    facts = asyncio.run(look_at_mapping(config, None, listen=config.listen, running_pid=None))
    [found] = mapping_findings(facts, ())
    assert found.state is State.OK
    assert why in found.measured
