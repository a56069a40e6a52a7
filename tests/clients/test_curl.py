"""The door by hand: `curl -N` against real nodes with the demo model."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from served_swarm import ServedSwarm

pytestmark = [
    pytest.mark.swarm,
    pytest.mark.smollm,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

TIMEOUT_S = 120
CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# Answers that do not end by themselves and take nearly all of the cache.
ENDLESS = {"messages": QUESTION, "max_tokens": 1900, "logit_bias": {"2": -100}}


def arguments(swarm: ServedSwarm, path: str, body: dict[str, Any], *options: str) -> list[str]:
    url = f"{swarm.url}{path}"
    return ["curl", "--silent", "--no-buffer", "--noproxy", "*", *options, url, "--json", json.dumps(body)]


@contextmanager
def curl(swarm: ServedSwarm, path: str, body: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Run curl while the block lasts, like somebody who presses Ctrl-C at its end."""
    with subprocess.Popen(arguments(swarm, path, body), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def next_line(process: subprocess.Popen[str], prefix: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(prefix):
            return line.strip()
    raise AssertionError(f"the stream ended without {prefix!r}")


def ask(swarm: ServedSwarm, path: str, body: dict[str, Any], *options: str) -> str:
    done = subprocess.run(
        arguments(swarm, path, body, *options), capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    return done.stdout


@pytest.mark.client("curl -N", f"POST {CHAT}")
def test_a_chat_streams_line_by_line(demo_swarm: ServedSwarm) -> None:
    body = {"messages": QUESTION, "temperature": 0, "max_tokens": 8, "stream": True}
    lines = [line for line in ask(demo_swarm, CHAT, body).splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "Paris" in "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


@pytest.mark.client("curl -N", "POST /v1/completions")
@pytest.mark.client("curl -N", "POST /v1/embeddings")
@pytest.mark.client("curl -N", "POST /v1/responses")
def test_the_other_routes_answer_in_json(demo_swarm: ServedSwarm) -> None:
    said = json.loads(ask(demo_swarm, "/v1/completions", {"prompt": "One, two,", "temperature": 0}))
    assert said["usage"]["completion_tokens"] == 16
    [vector] = json.loads(ask(demo_swarm, "/v1/embeddings", {"input": "cat"}))["data"]
    assert len(vector["embedding"]) == 576
    events = ask(demo_swarm, "/v1/responses", {"input": "Hi", "max_output_tokens": 4, "stream": True})
    assert "event: response.created\n" in events
    assert "event: response.incomplete\n" in events


@pytest.mark.client("curl -N", "GET /v1/models")
@pytest.mark.client("curl -N", "GET /openapi.json")
def test_the_door_describes_itself(demo_swarm: ServedSwarm) -> None:
    def get(path: str) -> Any:
        command = ["curl", "--silent", "--noproxy", "*", f"{demo_swarm.url}{path}"]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S).stdout)

    assert get("/v1/models")["data"][0]["context_window"] == 2048
    assert CHAT in get("/openapi.json")["paths"]


@pytest.mark.client("curl -N", f"POST {CHAT}")
def test_who_waits_in_line_is_told_and_served(demo_swarm: ServedSwarm) -> None:
    with curl(demo_swarm, CHAT, {**ENDLESS, "stream": True}) as first:
        next_line(first, "data: ")
        short = {**ENDLESS, "max_tokens": 1000, "stream": True, "max_wait_s": TIMEOUT_S}
        with curl(demo_swarm, CHAT, short) as second:
            assert "cannot lease" in next_line(second, ": waiting")
            first.terminate()
            assert '"role":"assistant"' in next_line(second, "data: ")
    demo_swarm.wait_nothing_leased()


@pytest.mark.client("curl -N", f"POST {CHAT}")
def test_giving_up_on_a_whole_answer_frees_its_leases(demo_swarm: ServedSwarm) -> None:
    command = arguments(demo_swarm, CHAT, ENDLESS, "--max-time", "1")
    assert subprocess.run(command, capture_output=True, timeout=TIMEOUT_S).returncode == 28
    demo_swarm.wait_nothing_leased()
