"""What stands before every endpoint refuses clients in words that they raise as their own errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from doors import ANY_PORT
from fake_node import FakeNode

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope

TURNS: Any = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True)
class Door:
    """A door that wants keys, and some keys."""

    url: str
    wrong: str
    for_monitors: str
    used_up: str


@asynccontextmanager
async def door(directory: Path) -> AsyncIterator[Door]:
    keys = KeyFile(directory)
    _, for_monitors = keys.create("monitor", scopes=(Scope.MONITOR,))
    _, used_up = keys.create("busy", scopes=(Scope.CHAT,), requests_per_minute=1)
    policy = DoorPolicy(keys=keys, home_needs_key=True)
    async with serve_door(FakeNode(), ANY_PORT, policy=policy) as address:
        yield Door(f"http://{address}", "gn-wrong", for_monitors, used_up)


def with_client(
    directory: Path,
    make: Callable[[str, str, dict[str, str]], Any],
    ask: Callable[[Any], Awaitable[object]],
    refusals: dict[str, Callable[[Any], None]],
) -> None:
    """Ask with each kind of key, and once under a foreign name; let `refusals` look at what is raised."""

    async def run() -> None:
        async with door(directory) as found:
            async with make(found.url, found.used_up, {}) as client:
                await ask(client)  # the one request that this key has in a minute
            for kind, check in refusals.items():
                headers = {"Host": "evil.example"} if kind == "host" else {}
                key = found.wrong if kind == "host" else getattr(found, kind)
                try:
                    async with make(found.url, key, headers) as client:
                        await ask(client)
                except Exception as exc:  # noqa: BLE001 - each client has its own; the check looks at the class
                    check(exc)
                else:
                    pytest.fail(f"not refused: {kind}")

    asyncio.run(run())


@pytest.mark.parametrize("endpoint", ["models", "chat", "responses"])
def test_openai(tmp_path: Path, endpoint: str) -> None:
    def make(url: str, key: str, headers: dict[str, str]) -> openai.AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        return openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http, default_headers=headers
        )

    async def ask(client: openai.AsyncOpenAI) -> object:
        if endpoint == "models":
            return await client.models.list()
        if endpoint == "chat":
            return await client.chat.completions.create(model="tiny", messages=TURNS)
        return await client.responses.create(model="tiny", input="hello")

    def check(kind: type[openai.APIStatusError], error: str, code: str, says: str) -> Callable[[Any], None]:
        def look(exc: Any) -> None:
            assert type(exc) is kind
            assert (exc.type, exc.param, exc.code) == (error, None, code)
            assert says in exc.body["message"]
            if kind is openai.RateLimitError:
                assert 0 < int(exc.response.headers["retry-after"]) <= 60
                assert exc.body["details"]["limit"] == 1

        return look

    invalid = "invalid_request_error"
    with_client(
        tmp_path,
        make,
        ask,
        {
            "wrong": check(openai.AuthenticationError, invalid, "invalid_api_key", "unknown or was revoked"),
            "for_monitors": check(
                openai.PermissionDeniedError, invalid, "insufficient_permissions", "this needs chat"
            ),
            "used_up": check(
                openai.RateLimitError, "rate_limit_error", "rate_limit_exceeded", "1 requests per minute"
            ),
            "host": check(openai.PermissionDeniedError, invalid, "bad_input", "--api-host"),
        },
    )


def test_anthropic(tmp_path: Path) -> None:
    def make(url: str, key: str, headers: dict[str, str]) -> anthropic.AsyncAnthropic:
        http = anthropic.DefaultAsyncHttpxClient(trust_env=False)
        return anthropic.AsyncAnthropic(
            base_url=url, api_key=key, max_retries=0, http_client=http, default_headers=headers
        )

    async def ask(client: anthropic.AsyncAnthropic) -> object:
        return await client.messages.create(model="tiny", max_tokens=8, messages=TURNS)

    def check(kind: type[anthropic.APIStatusError], error: str, says: str) -> Callable[[Any], None]:
        def look(exc: Any) -> None:
            assert type(exc) is kind
            assert (exc.body["type"], exc.body["error"]["type"]) == ("error", error)
            assert says in exc.body["error"]["message"]

        return look

    with_client(
        tmp_path,
        make,
        ask,
        {
            "wrong": check(anthropic.AuthenticationError, "authentication_error", "unknown or was revoked"),
            "for_monitors": check(anthropic.PermissionDeniedError, "permission_error", "this needs chat"),
            "used_up": check(anthropic.RateLimitError, "rate_limit_error", "1 requests per minute"),
            "host": check(anthropic.PermissionDeniedError, "permission_error", "--api-host"),
        },
    )


def test_ollama(tmp_path: Path) -> None:
    def make(url: str, key: str, headers: dict[str, str]) -> ollama.AsyncClient:
        return ollama.AsyncClient(
            host=url, trust_env=False, headers={"Authorization": f"Bearer {key}", **headers}
        )

    async def ask(client: ollama.AsyncClient) -> object:
        return await client.chat(model="tiny", messages=TURNS)

    def check(status: int, says: str) -> Callable[[Any], None]:
        def look(exc: Any) -> None:
            assert type(exc) is ollama.ResponseError
            assert exc.status_code == status
            assert says in exc.error

        return look

    with_client(
        tmp_path,
        make,
        ask,
        {
            "wrong": check(401, "unknown or was revoked"),
            "for_monitors": check(403, "this needs chat"),
            "used_up": check(429, "1 requests per minute"),
            "host": check(403, "--api-host"),
        },
    )
