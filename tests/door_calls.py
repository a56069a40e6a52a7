"""Requests to the door of a fake node, without sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from fake_node import FakeNode

from gridnode.control.door import create_door


def call(node: FakeNode, method: str, path: str, body: object = None) -> httpx.Response:
    """Return the door's whole answer; `body` is sent as JSON, bytes as they are."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_door(node))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            if isinstance(body, bytes):
                return await http.request(method, path, content=body)
            return await http.request(method, path, json=body)

    return asyncio.run(run())


def stream_data(response: httpx.Response) -> list[Any]:
    """Return the data of every server-sent event but the mark of the end."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def comments(response: httpx.Response) -> list[str]:
    """Return the comments of a stream."""
    return [line.removeprefix(": ") for line in response.text.splitlines() if line.startswith(":")]
