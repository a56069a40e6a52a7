"""What the doctor says of the kind of router."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gridnode.cli.doctor.findings import State
from gridnode.cli.doctor.relays import RelayVisit
from gridnode.cli.doctor.router import router_findings
from gridnode.core.addresses import Address

OUTSIDE = "203.0.113.5"


def seen(*ports: int, host: str = OUTSIDE) -> tuple[RelayVisit, ...]:
    """Return visits to relays that see this computer at these ports."""
    return tuple(
        RelayVisit(place=Address(f"192.0.2.{i}", 7339), observed=Address(host, port))
        for i, port in enumerate(ports)
    )


@pytest.mark.parametrize(
    ("ports", "is_mapped", "state", "measured"),
    [
        ((50000, 50000), False, State.OK, "keeps one port for all destinations"),
        ((50000, 50001), False, State.WARN, "(symmetric): nodes behind other routers are reached"),
        ((50000, 50001), True, State.OK, "others come in by the port that it maps"),
        ((50000,), False, State.OK, "a second relay would tell its kind"),
    ],
)
def test_the_ports_tell_the_kind(
    ports: tuple[int, ...], is_mapped: bool, state: State, measured: str
) -> None:
    [found] = router_findings(seen(*ports), own_hosts=["192.168.1.7"], is_mapped=is_mapped)
    assert found.state is state
    assert measured in found.measured
    assert OUTSIDE in found.measured
    assert bool(found.mend) == (state is not State.OK)


def test_a_computer_that_relays_see_at_its_own_address_has_no_router() -> None:
    [found] = router_findings(seen(7338, 7338), own_hosts=[OUTSIDE], is_mapped=False)
    assert found.measured.endswith("no router stands before it")


def test_relays_that_saw_nothing_tell_nothing() -> None:
    failed = replace(seen(50000)[0], problem="nobody answered")
    blocked = replace(seen(50000)[0], observed=None, by_tcp=True)
    here = seen(50000, host="127.0.0.1")
    assert not list(router_findings((failed, blocked, *here), own_hosts=[], is_mapped=False))
