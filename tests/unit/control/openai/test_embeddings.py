"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import pytest
from door_calls import call
from fake_node import FakeNode

from gridnode.errors import NoRoute


def embed(node: FakeNode, **fields: Any) -> httpx.Response:
    return call(node, "POST", "/v1/embeddings", {"model": "tiny", "input": "Hello", **fields})


def test_each_text_becomes_a_vector() -> None:
    body = embed(FakeNode(), input=["a", "b"]).json()
    assert body["object"] == "list"
    assert [item["index"] for item in body["data"]] == [0, 1]
    assert body["data"][0] == {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}
    assert body["usage"] == {"prompt_tokens": 10, "total_tokens": 10}


def test_base64_is_little_endian_float32() -> None:
    [item] = embed(FakeNode(), encoding_format="base64").json()["data"]
    assert struct.unpack("<2f", base64.b64decode(item["embedding"])) == pytest.approx((0.6, 0.8))


def test_tokens_can_be_given_instead_of_text() -> None:
    assert len(embed(FakeNode(), input=[1, 2]).json()["data"]) == 1
    assert len(embed(FakeNode(), input=[[1, 2], [3]]).json()["data"]) == 2


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": ""}, "input", "empty"),
        ({"input": ["a", [1]]}, "input", "mixes"),
        ({"input": ["a"] * 257}, "input", "at most 256"),
        ({"dimensions": 2}, "dimensions", "not shortened"),
        ({"encoding_format": "int8"}, "encoding_format", "int8"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    response = embed(FakeNode(), **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert words in response.json()["error"]["message"]


def test_a_gap_in_the_swarm_is_told() -> None:
    response = embed(FakeNode(error=NoRoute("tiny", 30, ((10, 20),))))
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "--blocks 10:20" in response.json()["error"]["message"]
