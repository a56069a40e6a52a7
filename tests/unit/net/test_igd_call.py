"""What the library miniupnpc is told, before a router that refuses in the library's words."""

from __future__ import annotations

from typing import Any

import pytest

from gridnode.net.igd_call import Refused, carry_out

MAP = {
    "url": "http://192.168.1.1/d.xml",
    "router": "192.168.1.1",
    "port": 7338,
    "local_host": "192.168.1.7",
    "local_port": 7338,
    "lease_s": 900,
}


class Igd:
    """Stands for `miniupnpc.UPnP`, which raises plain exceptions with the name of the refusal."""

    def __init__(
        self, *refusals: str, host: str = "8.8.4.4", control: str = "http://192.168.1.1/ctl"
    ) -> None:
        self.refusals = list(refusals)
        self.host = host
        self.control = control
        self.added: list[tuple[Any, ...]] = []
        self.deleted: list[tuple[int, str]] = []

    def selectigd(self, url: str) -> str:
        return self.control

    def externalipaddress(self) -> str:
        return self.host

    def addportmapping(self, *arguments: object) -> bool:
        self.added.append(arguments)
        if self.refusals:
            raise Exception(self.refusals.pop(0))
        return True

    def deleteportmapping(self, port: int, protocol: str) -> bool:
        self.deleted.append((port, protocol))
        return True


def test_the_wanted_port_is_mapped_with_a_lease() -> None:
    igd = Igd()
    assert carry_out(igd, MAP) == {"host": "8.8.4.4", "port": 7338}
    assert igd.added == [(7338, "UDP", "192.168.1.7", 7338, "gridnode", "", 900)]


def test_a_port_that_another_computer_has_is_left_to_it() -> None:
    igd = Igd("ConflictInMappingEntry", "ConflictWithOtherMechanisms")
    found = carry_out(igd, MAP)
    assert found["port"] == igd.added[-1][0] in range(49152, 65536)
    assert len({arguments[0] for arguments in igd.added}) == 3


def test_only_a_few_ports_are_tried() -> None:
    igd = Igd(*["ConflictInMappingEntry"] * 9)
    with pytest.raises(Refused, match="ConflictInMappingEntry"):
        carry_out(igd, MAP)
    assert len(igd.added) == 4


def test_a_router_without_leases_is_asked_for_good() -> None:
    igd = Igd("OnlyPermanentLeasesSupported")
    assert carry_out(igd, MAP)["port"] == 7338
    assert [arguments[-1] for arguments in igd.added] == [900, 0]


def test_what_else_is_refused_is_told() -> None:
    with pytest.raises(Refused, match="refuses by UPnP: Action not authorized"):
        carry_out(Igd("Action not authorized"), MAP)


@pytest.mark.parametrize("host", ["10.0.0.2", "100.64.1.2", "", "what?"])
def test_a_router_that_nobody_reaches_is_not_asked_for_a_port(host: str) -> None:
    igd = Igd(host=host)
    assert carry_out(igd, MAP)["port"] == 0
    assert not igd.added


def test_no_other_host_takes_commands() -> None:
    igd = Igd(control="http://192.168.1.9/ctl")
    with pytest.raises(Refused, match="instead of itself"):
        carry_out(igd, MAP)
    assert not igd.added


def test_a_mapping_is_ended_by_its_port_outside() -> None:
    igd = Igd()
    assert carry_out(igd, {"url": MAP["url"], "router": MAP["router"], "port": 50000}) == {}
    assert igd.deleted == [(50000, "UDP")]
