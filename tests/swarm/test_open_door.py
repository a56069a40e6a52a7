"""A node whose door is open to other computers, reached as one of them would: by its address on a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import ollama
import openai
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from gridnode.core.addresses import Address
from gridnode.net.interfaces import reachable_addresses

pytestmark = pytest.mark.swarm


def gridnode(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gridnode", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


class OpenNode:
    """A running `gridnode up --api 0.0.0.0:0`."""

    def __init__(self, process: subprocess.Popen[str], state_dir: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.state_dir = state_dir
        self.told = json.loads(process.stdout.readline())
        self.first_key: str = json.loads(process.stdout.readline())["key"]
        port = int(self.told["api"].rpartition(":")[2])
        found = reachable_addresses(Address("0.0.0.0", port))
        if not found:
            process.kill()
            pytest.skip("this computer is on no network")
        self.elsewhere = str(found[0])

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://{self.elsewhere}{path}", headers=headers, trust_env=False)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenNode]:
    state_dir = tmp_path_factory.mktemp("open-door")
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--no-mdns", "--log-level", "debug"]
    command += ["--api", "0.0.0.0:0", "--listen", "127.0.0.1:0", "--state-dir", str(state_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield OpenNode(process, state_dir)
        finally:
            process.kill()


def test_others_need_the_key_that_was_printed(node: OpenNode) -> None:
    assert node.get("/api/v1/status").status_code == 401
    assert node.get("/api/v1/status", Authorization="Bearer gn-guess").status_code == 401
    answer = node.get("/api/v1/status", Authorization=f"Bearer {node.first_key}")
    assert answer.json()["peer_id"] == node.told["peer_id"]
    assert node.get("/api/v1/status", **{"x-api-key": node.first_key}).status_code == 200


def test_a_name_that_somebody_lets_point_here_is_refused(node: OpenNode) -> None:
    key = f"Bearer {node.first_key}"
    assert node.get("/api/v1/status", Authorization=key, Host="evil.example").status_code == 403
    assert node.get("/api/v1/status", Authorization=key, Origin="http://evil.example").status_code == 403


def test_a_browser_enters_its_key_on_a_page(node: OpenNode) -> None:
    with httpx.Client(base_url=f"http://{node.elsewhere}", trust_env=False) as browser:
        page = browser.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 401
        assert "<form" in page.text
        opened = browser.post("/login", data={"key": node.first_key, "next": "/"}, follow_redirects=True)
        assert opened.status_code == 200
        assert '<form method="post" action="/login">' not in opened.text


def test_commands_on_this_computer_need_no_key(node: OpenNode) -> None:
    at_home = gridnode("status", "--json", "--api", node.told["api"])
    assert json.loads(at_home.stdout)["peer_id"] == node.told["peer_id"]


def test_commands_elsewhere_take_the_key_from_the_environment(node: OpenNode, tmp_path: Path) -> None:
    refused = gridnode("status", "--api", node.elsewhere)
    assert refused.returncode == 6
    assert "GRIDNODE_API_KEY" in refused.stderr
    assert "Traceback" not in refused.stderr
    file = tmp_path / "key"
    file.write_text(node.first_key + "\n")
    for variables in ({"GRIDNODE_API_KEY": node.first_key}, {"GRIDNODE_API_KEY_FILE": str(file)}):
        assert gridnode("status", "--api", node.elsewhere, **variables).returncode == 0


def test_keys_are_made_and_revoked_while_it_runs(node: OpenNode) -> None:
    made = gridnode("keys", "create", "phone", "--scope", "monitor", "--state-dir", str(node.state_dir))
    key = f"Bearer {made.stdout.strip()}"
    assert node.get("/api/v1/status", Authorization=key).status_code == 200
    assert gridnode("keys", "revoke", "phone", "--state-dir", str(node.state_dir)).returncode == 0
    assert node.get("/api/v1/status", Authorization=key).status_code == 401


def test_no_key_is_in_any_file_of_the_node(node: OpenNode) -> None:
    node.get("/api/v1/status", Authorization=f"Bearer {node.first_key}")
    for path in node.state_dir.rglob("*"):
        if path.is_file():
            assert node.first_key.encode() not in path.read_bytes(), path


def test_a_websocket_passes_the_same_door(node: OpenNode) -> None:
    def dial(**headers: str) -> ClientConnection:
        return connect(
            f"ws://{node.elsewhere}/api/v2/generate", additional_headers=headers, proxy=None, open_timeout=20
        )

    for headers in ({}, {"Authorization": "Bearer gn-wrong"}):
        with pytest.raises(InvalidStatus) as refused:
            dial(**headers)
        assert refused.value.response.status_code == 401
    # A page hears why on the socket itself; nothing that it says there is read.
    with dial(Authorization=f"Bearer {node.first_key}", Origin="http://evil.example") as page:
        assert "is refused" in json.loads(page.recv(timeout=20))["traceback"]
        with pytest.raises(ConnectionClosedError) as closed:
            page.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CloseCode.POLICY_VIOLATION
    with dial(Authorization=f"Bearer {node.first_key}"):
        pass
    with dial(Cookie=f"gridnode_key={node.first_key}", Origin=f"http://{node.elsewhere}"):
        pass


@pytest.mark.client("openai", "401, and a key")
def test_the_client_of_openai_sends_its_key(node: OpenNode) -> None:
    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"http://{node.elsewhere}/v1", api_key=key, http_client=httpx.Client(trust_env=False)
        )

    with client(node.first_key) as right, client("gn-wrong") as wrong:
        assert list(right.models.list()) == []
        with pytest.raises(openai.AuthenticationError, match="unknown or was revoked"):
            wrong.models.list()


@pytest.mark.client("anthropic", "401, and a key")
def test_the_client_of_anthropic_sends_its_key(node: OpenNode) -> None:
    def count_tokens(key: str) -> None:
        with anthropic.Anthropic(
            base_url=f"http://{node.elsewhere}",
            api_key=key,
            http_client=anthropic.DefaultHttpxClient(trust_env=False),
        ) as client:
            client.messages.count_tokens(model="none", messages=[{"role": "user", "content": "Hello"}])

    # Past the door, where nobody serves this model.
    with pytest.raises(anthropic.NotFoundError):
        count_tokens(node.first_key)
    with pytest.raises(anthropic.AuthenticationError, match="unknown or was revoked"):
        count_tokens("gn-wrong")


@pytest.mark.client("ollama", "401, and a key")
def test_the_client_of_ollama_sends_its_key(node: OpenNode) -> None:
    def client(key: str) -> ollama.Client:
        return ollama.Client(
            f"http://{node.elsewhere}", headers={"Authorization": f"Bearer {key}"}, trust_env=False
        )

    with client(node.first_key) as right, client("gn-wrong") as wrong:
        assert list(right.list().models) == []
        with pytest.raises(ollama.ResponseError) as refused:
            wrong.list()
        assert refused.value.status_code == 401
