"""A client of Petals' chat against real nodes with the demo model: forms, and a real WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served_swarm import ServedSwarm
from websockets.sync.client import ClientConnection, connect

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]

FORM = "POST /api/v1/generate"
SOCKET = "WebSocket /api/v2/generate"
# As the chat of Petals puts a conversation into words.
TURN = "Human: What is the capital of France?###Assistant:"


@pytest.fixture
def socket(demo_swarm: ServedSwarm) -> Iterator[ClientConnection]:
    with open_socket(demo_swarm) as found:
        yield found
    demo_swarm.wait_nothing_leased()


def open_socket(swarm: ServedSwarm) -> ClientConnection:
    return connect(f"{swarm.url.replace('http', 'ws', 1)}/api/v2/generate", proxy=None)


def say(socket: ClientConnection, **message: Any) -> dict[str, Any]:
    socket.send(json.dumps(message))
    return hear(socket)


def hear(socket: ClientConnection) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(socket.recv(timeout=60.0))
    return reply


def turn(socket: ClientConnection, **message: Any) -> list[dict[str, Any]]:
    """Return the replies of one turn, as the page of Petals' chat reads them."""
    replies = [say(socket, type="generate", **message)]
    while replies[-1]["ok"] and not replies[-1]["stop"]:
        replies.append(hear(socket))
    return replies


def text_of(replies: list[dict[str, Any]]) -> str:
    return "".join(reply["outputs"] for reply in replies)


@pytest.mark.client("httpx", FORM)
def test_a_form_continues_a_text(demo_swarm: ServedSwarm) -> None:
    values = {"inputs": "The capital of France is", "max_new_tokens": "8", "do_sample": "0"}
    with httpx.Client(base_url=demo_swarm.url, trust_env=False, timeout=60.0) as http:
        found = http.post("/api/v1/generate", data=values).json()
        assert found["ok"]
        assert "Paris" in found["outputs"]
        as_json = {"inputs": values["inputs"], "max_length": 5 + 8, "do_sample": 0}
        assert http.post("/api/v1/generate", json=as_json).json() == found
        long = http.post("/api/v1/generate", data=values | {"inputs": "word " * 3000})
        assert long.status_code == 400
        assert long.json()["traceback"].startswith("Maximum length exceeded: ")
        assert "2048" in long.json()["traceback"]


@pytest.mark.client("websockets", SOCKET)
def test_a_turn_is_streamed_until_its_stop(socket: ClientConnection) -> None:
    assert say(socket, type="open_inference_session", model="", max_length=512) == {"ok": True}
    replies = turn(socket, inputs="1, 2, 3, 4, 5,", max_new_tokens=1, do_sample=0, stop_sequence="9")
    assert text_of(replies) == " 6, 7, 8, 9"
    assert len(replies) > 3
    assert [reply["stop"] for reply in replies] == [False] * (len(replies) - 1) + [True]


@pytest.mark.client("websockets", SOCKET)
def test_one_token_at_a_time_says_the_same_as_many(demo_swarm: ServedSwarm, socket: ClientConnection) -> None:
    say(socket, type="open_inference_session", max_length=512)
    pieces = turn(socket, inputs="The capital of France is", max_new_tokens=1, do_sample=0)
    for _ in range(5):
        pieces += turn(socket, max_new_tokens=1, do_sample=0)
    with open_socket(demo_swarm) as other:
        say(other, type="open_inference_session", max_length=512)
        (whole,) = turn(other, inputs="The capital of France is", max_new_tokens=6, do_sample=0)
    assert text_of(pieces) == whole["outputs"]
    assert sum(piece["token_count"] for piece in pieces) == whole["token_count"] == 6


@pytest.mark.client("websockets", SOCKET)
def test_the_next_inputs_continue_what_was_said(demo_swarm: ServedSwarm, socket: ClientConnection) -> None:
    say(socket, type="open_inference_session", max_length=512)
    wanted: Any = {"do_sample": 0, "stop_sequence": "8", "extra_stop_sequences": ["###"]}
    first = text_of(turn(socket, inputs="Count: 1, 2, 3,", **wanted))
    again = text_of(turn(socket, inputs=" again: 1, 2, 3,", **wanted))
    assert again.endswith("8")
    with httpx.Client(base_url=demo_swarm.url, trust_env=False, timeout=60.0) as http:
        prompt = f"Count: 1, 2, 3,{first} again: 1, 2, 3,"
        values = {"inputs": prompt, "max_new_tokens": 40}
        expected = http.post("/api/v1/generate", json=values).json()["outputs"]
    assert expected.startswith(again)


@pytest.mark.client("websockets", SOCKET)
def test_a_session_has_its_length_and_no_more(socket: ClientConnection) -> None:
    say(socket, type="open_inference_session", max_length=24)
    # Greedy: a sampled answer may end before.
    last = turn(socket, inputs=TURN, stop_sequence="~~~~")[-1]
    assert last["ok"] is False
    assert last["traceback"].startswith("Maximum length exceeded: 25 tokens")


@pytest.mark.client("websockets", SOCKET)
def test_leaving_in_the_middle_frees_every_lease(demo_swarm: ServedSwarm, socket: ClientConnection) -> None:
    say(socket, type="open_inference_session", max_length=2048)
    assert say(socket, type="generate", inputs=TURN, do_sample=0, stop_sequence="~~~~")["ok"]
    socket.close()
    demo_swarm.wait_nothing_leased()


@pytest.mark.client("websockets", SOCKET)
def test_a_session_outlives_a_hop_that_dies_in_a_pause(
    demo_swarm: ServedSwarm, socket: ClientConnection
) -> None:
    prompt = "One, two, three,"
    values = {"inputs": prompt, "max_new_tokens": 12}
    with httpx.Client(base_url=demo_swarm.url, trust_env=False, timeout=60.0) as http:
        undisturbed = http.post("/api/v1/generate", json=values).json()["outputs"]
    say(socket, type="open_inference_session", max_length=512)
    text = text_of(turn(socket, inputs=prompt, max_new_tokens=6, do_sample=0))

    async def last_hop() -> str:
        statuses = [node.status() for node in demo_swarm.swarm.nodes]
        (found,) = (
            status.short
            for status in statuses
            if status.open_sessions and status.peers[0].serving and status.peers[0].serving.start
        )
        return found

    demo_swarm.kill_worker(demo_swarm.run(last_hop()))
    text += text_of(turn(socket, max_new_tokens=6, do_sample=0))
    assert text == undisturbed
    demo_swarm.wait_ready()
