from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from doors import with_door
from fake_node import STATUS, FakeNode

from gridnode.control.patience import MAX_WAIT_S

ASKED: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
    "/v1/messages": {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
    "/api/v1/generate": {"model": "tiny", "inputs": "x", "max_new_tokens": 1},
}


@pytest.mark.parametrize("path", ASKED)
def test_answers_wait_for_room_but_not_for_missing_blocks(path: str) -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        await http.post(path, json=ASKED[path])
        node.current = replace(STATUS, models=(replace(STATUS.models[0], gaps=((10, 20),)),))
        await http.post(path, json=ASKED[path])

    with_door(node, act)
    assert [request.max_wait_s for request in node.requests] == [MAX_WAIT_S, 0.0]
