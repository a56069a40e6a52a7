"""The tables of `gridnode status`."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from fake_node import SERVING, STATUS
from fake_swarm import small_swarm
from rich.console import Console

from gridnode.cli.status_tables import status_view
from gridnode.control.status_schema import EngineStatus, NodeStatus, PauseStatus, PortMappingStatus

ROUTE = "aaaaaaaa 0:10 > bbbbbbbb 10:20 > cccccccc 20:30"


def shown(status: NodeStatus, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(status_view(status))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_cuts_no_number_and_no_hop(width: int) -> None:
    model = replace(STATUS.models[0], name="SmolLM2-135M-Instruct", route=ROUTE)
    text = shown(replace(STATUS, models=(model,)), width=width)
    assert "…" not in text
    for word in ["SmolLM2-135M-Instruct", "8192", *ROUTE.split()]:
        assert word in text


@pytest.mark.parametrize(("speed", "told"), [(7.123, "7.1"), (123.4, "123")])
def test_a_route_tells_the_speed_to_expect(speed: float, told: str) -> None:
    model = replace(STATUS.models[0], route=ROUTE, expected_tokens_per_s=speed)
    assert f"{ROUTE}, about {told} t/s" in shown(replace(STATUS, models=(model,)), width=200)


def test_a_node_that_loads_says_how_far_it_is() -> None:
    loading = EngineStatus(state="loading", loaded_blocks=3, wanted_blocks=10)
    assert "3 of 10" in shown(replace(STATUS, engine=loading))


def test_a_relay_beside_the_node_says_what_passed_and_what_did_not() -> None:
    text = shown(replace(STATUS, served_relay=small_swarm().served_relay), width=200)
    assert (
        "serves a relay at 0.0.0.0:7339: 5 nodes (1 by WebSocket), 80900 packets and 97.0 MiB forwarded"
        in text
    )
    assert "31 packets dropped: 30 above the rate of one node, 1 to nodes that are not there;" in text
    assert "serves a relay" not in shown(STATUS)


def test_a_router_that_lets_others_in_is_named_and_one_that_does_not_as_well() -> None:
    mapped = PortMappingStatus(router="192.168.1.1", protocol="UPnP", address="8.8.4.4:7338")
    refused = replace(mapped, protocol="", address="", problem="the router 192.168.1.1 refuses")
    text = "router 192.168.1.1 lets others in at 8.8.4.4:7338, by UPnP"
    assert text in shown(replace(STATUS, port_mapping=mapped))
    assert "nobody is let in from outside: the router 192.168.1.1 refuses" in shown(
        replace(STATUS, port_mapping=refused), width=200
    )
    assert "router" not in shown(replace(STATUS, port_mapping=replace(refused, problem="")))


def test_a_swarm_without_a_model_says_how_to_serve_one() -> None:
    assert "gridnode up --model" in shown(replace(STATUS, models=()))


def test_peers_that_do_not_serve_yet_have_no_speed() -> None:
    peer = replace(STATUS.peers[0], state="joining")
    assert "t/s" not in shown(replace(STATUS, peers=(peer,)))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_who_pauses_says_why(width: int) -> None:
    resting = replace(
        STATUS.peers[0],
        is_self=False,
        short="bbbbbbbb",
        public_name="Bo",
        state="paused",
        pause_reason="on [b]battery",
    )
    pause = PauseStatus(reason="on battery", remaining_s=None, is_owners=False)
    text = shown(replace(STATUS, peers=(*STATUS.peers, resting), pause=pause), width=width)
    assert " bbbbbbbb pauses: on [b]battery" in text
    assert "paused until that changes: on battery" in text


def test_a_strangers_name_is_no_command() -> None:
    peer = replace(STATUS.peers[0], serving=replace(SERVING, end=10))
    model = replace(STATUS.models[0], name="x; id #", gaps=((10, 30),), route="")
    text = shown(replace(STATUS, peers=(peer,), models=(model,)), width=200)
    assert "gridnode up --model 'x; id #' --blocks 10:30 --join" in text
