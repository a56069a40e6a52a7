"""Whoever asks is refused in words that its client understands, also before any endpoint is reached."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from doors import with_door
from fake_node import FakeNode

STRANGER = {"Host": "evil.example"}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/messages", ("error", "message")),
        ("/v1/messages/count_tokens", ("error", "message")),
        ("/v1/chat/completions", ("error", "message")),
        ("/api/chat", ("error",)),
        ("/api/version", ("error",)),
        ("/api/nothing", ("error",)),
        ("/api/v1/generate", ("traceback",)),
        ("/api/v1/run", ("error", "message")),
        ("/health", ("error", "message")),
    ],
)
def test_strangers_are_refused_in_the_words_of_the_path(path: str, place: tuple[str, ...]) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post(path, headers=STRANGER)
        assert response.status_code == 403
        found: Any = response.json()
        for name in place:
            found = found[name]
        assert "'evil.example' is refused" in found

    with_door(FakeNode(), act)


def test_every_dialect_has_its_own_shape() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        anthropic = (await http.post("/v1/messages", headers=STRANGER)).json()
        assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "permission_error")
        openai = (await http.post("/v1/completions", headers=STRANGER)).json()
        assert openai["error"]["type"] == "invalid_request_error"
        assert (await http.post("/api/v1/generate", headers=STRANGER)).json()["ok"] is False
        assert (await http.post("/api/v1/status", headers=STRANGER)).json()["error"]["code"] == "bad_input"

    with_door(FakeNode(), act)


def test_wrong_methods_and_paths_too() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        wrong = await http.get("/api/chat")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert wrong.json() == {"error": "GET /api/chat: method not allowed"}
        missing = await http.get("/api/blobs/x")
        assert (missing.status_code, missing.json()) == (404, {"error": "GET /api/blobs/x: not found"})

    with_door(FakeNode(), act)
