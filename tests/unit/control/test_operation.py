"""The description of the door is made from its records."""

from __future__ import annotations

import json
import re

from door_calls import call
from fake_node import FakeNode
from starlette.routing import Route

from gridnode.control.door import create_door


def test_every_reference_leads_to_a_record() -> None:
    document = call(FakeNode(), "GET", "/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    assert "ChatRequest" in references


def test_every_route_under_v1_is_described() -> None:
    document = call(FakeNode(), "GET", "/openapi.json").json()
    routes = [route for route in create_door(FakeNode()).routes if isinstance(route, Route)]
    known = {re.sub(r":\w+\}", "}", route.path) for route in routes if route.path.startswith("/v1/")}
    assert known <= set(document["paths"])


def test_a_stream_is_described_by_its_events() -> None:
    paths = call(FakeNode(), "GET", "/openapi.json").json()["paths"]
    content = paths["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatCompletion"}
    assert content["text/event-stream"]["schema"] == {"oneOf": [{"$ref": "#/components/schemas/ChatChunk"}]}
    assert list(paths["/api/v1/run"]["post"]["responses"]["200"]["content"]) == ["text/event-stream"]
