"""What people ask and are told is in no file of a node, at any log level, unless its operator wants that."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

pytestmark = pytest.mark.swarm

PROMPT = "my grandmother's recipe for plum dumplings"


@dataclass(frozen=True)
class Told:
    """What a node wrote down while it answered."""

    answers: list[str]
    written: str
    """Standard error and every file that the node made."""


def ask_and_read(model: Path, directory: Path, *arguments: str) -> Told:
    """Let a node answer, fail, and stop; return what it wrote."""
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--no-mdns", "--log-level", "debug"]
    command += ["--model", str(model), "--quantize", "none", "--executor", "torch", "--threads", "1"]
    command += ["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--state-dir", str(directory / "state")]
    with (
        (directory / "stderr").open("wb") as stderr,
        subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True) as node,
    ):
        try:
            assert node.stdout is not None
            api = json.loads(node.stdout.readline())["api"]
            while json.loads(node.stdout.readline())["event"] != "ready":
                pass
            answers = list(ask(f"http://{api}"))
        finally:
            node.terminate()
            node.wait(timeout=30)
    files = [path for path in directory.rglob("*") if path.is_file()]
    return Told(answers, "\n".join(path.read_bytes().decode("utf-8", "replace") for path in files))


def ask(url: str) -> list[str]:
    """Return the texts of answers to the prompt, asked in several ways; two of them fail."""
    turns = [{"role": "user", "content": PROMPT}]
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        streamed = http.post(
            "/api/v1/run", json={"prompt": PROMPT, "max_tokens": 40, "ignore_eos": True}
        ).text
        deltas = [
            json.loads(line.removeprefix("data: "))["text"]
            for line in streamed.splitlines()
            if line.startswith("data: ") and '"event":"delta"' in line
        ]
        whole = http.post("/v1/completions", json={"model": "", "prompt": PROMPT, "max_tokens": 40}).json()
        too_long = http.post("/api/v1/run", json={"prompt": PROMPT * 1000})
        assert too_long.status_code == 400
        wrong = http.post("/v1/chat/completions", json={"model": PROMPT, "messages": turns})
        assert wrong.status_code == 404
        values = {"inputs": PROMPT, "max_new_tokens": 40}
        form = http.post("/api/v1/generate", params=values).json()
    with connect(f"{url.replace('http', 'ws', 1)}/api/v2/generate", proxy=None) as socket:
        for message in (
            {"type": "open_inference_session", "max_length": 512},
            {"type": "generate", **values},
        ):
            socket.send(json.dumps(message))
            reply = json.loads(socket.recv(timeout=60))
    return ["".join(deltas), whole["choices"][0]["text"], form["outputs"], reply["outputs"]]


def test_neither_prompts_nor_answers_are_written_down(tiny_llama: Path, tmp_path: Path) -> None:
    told = ask_and_read(tiny_llama, tmp_path)
    assert "DEBUG" in told.written
    assert "dumplings" not in told.written
    for answer in told.answers:
        assert len(answer) >= 8
        for form in (answer, json.dumps(answer)[1:-1], json.dumps(answer, ensure_ascii=False)[1:-1]):
            assert form[:16] not in told.written


def test_they_are_if_the_operator_asks_for_it(tiny_llama: Path, tmp_path: Path) -> None:
    told = ask_and_read(tiny_llama, tmp_path, "--log-prompts")
    assert f'asked: "{PROMPT}"' in told.written
    assert "answered: " + json.dumps(told.answers[0], ensure_ascii=False) in told.written
