"""Nodes ask real routers (miniupnpd) for a way in, by NAT-PMP and by UPnP, and are dialled there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from igd_lab import EVERYTHING, mapped_ports, mapping_router, why_not
from nat_lab import LAN_ROUTER, Internet, Nat, Site, relay
from network_lab import NetworkLab, RunningNode
from waiting import eventually

pytestmark = [pytest.mark.netlab, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

# Not of those for documents: routers that have one of these say themselves that nobody reaches them.
RELAY = "25.0.0.10"
HOME, FAR, INNER = "25.0.0.2", "25.0.0.3", "100.64.0.2"
PROTOCOLS = {"natpmp": "NAT-PMP", "upnp": "UPnP"}


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    sites = [
        Site(name="relay", address=RELAY),
        Site(name="home", nat=Nat.SYMMETRIC, address=HOME),
        Site(name="far", nat=Nat.SYMMETRIC, address=FAR),
        Site(name="inner", nat=Nat.SYMMETRIC, address=INNER),
    ]
    with (
        NetworkLab(tmp_path_factory.mktemp("lab")) as lab,
        Internet(lab, sites) as made,
        relay(made.hosts["relay"]),
    ):
        yield made


@contextlib.contextmanager
def running(internet: Internet, *names: str) -> Iterator[list[RunningNode]]:
    arguments = ("--threads", "1", "--no-mdns", "--relay", RELAY)
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(internet.hosts[name].up(*arguments)) for name in names]
        for node in nodes:
            node.wait_listening()
        yield nodes


def logs(nodes: list[RunningNode]) -> str:
    return "\n".join(f"--- {node.host.name}\n{node.log()}" for node in nodes)


def wait_direct(nodes: list[RunningNode]) -> float:
    return eventually(
        lambda: [peer["path"] for node in nodes for peer in node.peers().values()] == ["direct"] * 2,
        timeout_s=60,
        hint=lambda: logs(nodes),
    )


@pytest.mark.parametrize("by", PROTOCOLS)
def test_two_symmetric_homes_go_direct_when_one_router_maps_a_port(
    internet: Internet, tmp_path: Path, by: str
) -> None:
    with mapping_router(internet, "home", tmp_path, by=by):
        with running(internet, "home", "far") as nodes:
            took_s = wait_direct(nodes)
            home, far = nodes
            print(f"direct after {took_s:.1f} s")
            assert home.status()["port_mapping"] == {
                "router": LAN_ROUTER,
                "protocol": PROTOCOLS[by],
                "address": f"{HOME}:7338",
                "problem": "",
                "router_is_hidden": False,
            }
            assert home.status()["addresses"][-1] == f"{HOME}:7338"
            assert far.peers()[home.peer_id]["address"] == f"{HOME}:7338"
        assert "7338" not in mapped_ports(internet, "home"), home.log()


@pytest.mark.parametrize("by", PROTOCOLS)
def test_the_port_that_another_computer_has_is_left_to_it(
    internet: Internet, tmp_path: Path, by: str
) -> None:
    with mapping_router(internet, "home", tmp_path, by=by, lease="UDP:7338:192.168.1.3:7338:0:other"):
        with running(internet, "home", "far") as nodes:
            wait_direct(nodes)
            mapped = nodes[0].status()["port_mapping"]["address"]
            assert mapped.startswith(f"{HOME}:")
            assert mapped != f"{HOME}:7338"
            assert nodes[1].peers()[nodes[0].peer_id]["address"] == mapped
        assert "192.168.1.3:7338" in mapped_ports(internet, "home")
        assert "192.168.1.2:7338" not in mapped_ports(internet, "home")


def doctor(internet: Internet, name: str) -> dict[str, str]:
    done = internet.hosts[name].gridnode("doctor", "network", "--json", "--port-mapping")
    findings = json.loads(done.stdout)["findings"]
    [found] = [finding for finding in findings if finding["check"] == "port mapping"]
    print(found)
    return dict(found)


def test_the_doctor_maps_a_port_for_a_moment(internet: Internet, tmp_path: Path) -> None:
    with mapping_router(internet, "home", tmp_path, by="upnp"):
        found = doctor(internet, "home")
        assert found["state"] == "ok"
        assert f"{LAN_ROUTER} lets others in at {HOME}:7338, by UPnP" in found["measured"]
        assert "7338" not in mapped_ports(internet, "home")


def test_the_doctor_names_a_router_that_refuses(internet: Internet, tmp_path: Path) -> None:
    with mapping_router(internet, "home", tmp_path, by="upnp", rule=EVERYTHING.replace("allow", "deny")):
        found = doctor(internet, "home")
    assert found["state"] == "warn"
    assert f"the router {LAN_ROUTER}" in found["measured"]
    assert "refuses by UPnP: Action not authorized" in found["measured"]
    assert LAN_ROUTER in found["mend"]


def test_the_doctor_names_a_router_that_maps_nothing(internet: Internet) -> None:
    found = doctor(internet, "home")
    assert found["state"] == "warn"
    assert f"{LAN_ROUTER} does not take NAT-PMP, and does not answer to UPnP" in found["measured"]


@pytest.mark.parametrize("by", PROTOCOLS)
def test_a_router_behind_another_router_is_no_way_in(internet: Internet, tmp_path: Path, by: str) -> None:
    with mapping_router(internet, "inner", tmp_path, by=by):
        found = doctor(internet, "inner")
    assert found["state"] == "warn"
    assert "itself has no address on the Internet" in found["measured"]
    assert found["mend"] == "gridnode up --relay HOST[:PORT]"
