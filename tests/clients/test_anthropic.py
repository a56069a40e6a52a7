"""Anthropic's own client against real nodes with the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from served_swarm import ServedSwarm

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]

MESSAGES = "POST /v1/messages"
COUNT = "POST /v1/messages/count_tokens"
# This client has no argument for it any more; the interface has.
GREEDY = {"temperature": 0}
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    },
}


@pytest.fixture(scope="module")
def client(demo_swarm: ServedSwarm) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(
        base_url=demo_swarm.url, api_key="not needed here", max_retries=0, http_client=http
    ) as found:
        yield found


@pytest.fixture(scope="module")
def model(demo_swarm: ServedSwarm) -> str:
    status = httpx.get(f"{demo_swarm.url}/api/v1/status", trust_env=False).json()
    return str(status["models"][0]["name"])


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.client("anthropic", MESSAGES)
def test_a_stream_says_the_same_as_a_whole_answer(client: anthropic.Anthropic, model: str) -> None:
    asked: Any = {"model": model, "messages": QUESTION, "extra_body": GREEDY, "max_tokens": 12}
    whole = client.messages.create(**asked)
    assert text_of(whole)
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == text_of(final) == text_of(whole)
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert whole.model_dump()["gridnode"]["route"]


@pytest.mark.client("anthropic", MESSAGES)
def test_the_events_come_in_their_order(client: anthropic.Anthropic, model: str) -> None:
    stream = client.messages.create(
        model=model, messages=QUESTION, extra_body=GREEDY, max_tokens=3, stream=True
    )
    kinds = [event.type for event in stream]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * (len(kinds) - 5),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.client("anthropic", MESSAGES)
@pytest.mark.client("anthropic", COUNT)
def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic, model: str) -> None:
    prompt: Any = {"model": model, "messages": QUESTION, "system": "Be brief.", "tools": [WEATHER]}
    counted = client.messages.count_tokens(**prompt)
    used = client.messages.create(**prompt, max_tokens=1).usage
    assert counted.input_tokens == used.input_tokens
    bare = client.messages.count_tokens(model=model, messages=QUESTION)
    assert bare.input_tokens < counted.input_tokens


@pytest.mark.client("anthropic", MESSAGES)
def test_it_says_why_it_ended(client: anthropic.Anthropic, model: str) -> None:
    asked: Any = {"model": model, "messages": QUESTION, "extra_body": GREEDY}
    stopped = client.messages.create(**asked, max_tokens=32, stop_sequences=["France", "Paris"])
    assert stopped.stop_reason == "stop_sequence"
    assert stopped.stop_sequence in ("France", "Paris")
    assert stopped.stop_sequence not in text_of(stopped)
    assert client.messages.create(**asked, max_tokens=2).stop_reason == "max_tokens"
    assert client.messages.create(**asked, max_tokens=64).stop_reason == "end_turn"


@pytest.mark.client("anthropic", MESSAGES)
def test_a_tool_that_must_be_called_is_called(client: anthropic.Anthropic, model: str) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked: Any = {
        "model": model,
        "extra_body": GREEDY,
        "max_tokens": 64,
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "get_weather"},
    }
    whole = client.messages.create(**asked, messages=question)
    assert whole.stop_reason == "tool_use"
    (call,) = (block for block in whole.content if block.type == "tool_use")
    assert call.name == "get_weather"
    assert isinstance(call.input["city"], str)
    with client.messages.stream(**asked, messages=question) as stream:
        streamed = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert [block.input for block in streamed] == [call.input]
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    answered = client.messages.create(
        model=model,
        max_tokens=8,
        tools=[WEATHER],
        messages=[
            *question,
            {"role": "assistant", "content": whole.content},
            {"role": "user", "content": [result]},
        ],
    )
    assert answered.usage.input_tokens > whole.usage.input_tokens


@pytest.mark.client("anthropic", MESSAGES)
def test_a_schema_is_kept(client: anthropic.Anthropic, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = client.messages.create(
        model=model,
        max_tokens=64,
        extra_body=GREEDY,
        messages=[{"role": "user", "content": "Describe Ada, 36 years old, as JSON."}],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert json.loads(text_of(answer)).keys() == {"name", "age"}


@pytest.mark.client("anthropic", MESSAGES)
def test_errors_are_raised_with_their_numbers(client: anthropic.Anthropic, model: str) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody in the swarm serves"):
        client.messages.create(model="huge", messages=QUESTION, max_tokens=1)
    long: Any = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 2048 maximum"):
        client.messages.create(model=model, messages=long, max_tokens=1)
    image: Any = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]
    with pytest.raises(anthropic.BadRequestError, match="'image'"):
        client.messages.create(model=model, messages=[{"role": "user", "content": image}], max_tokens=1)


@pytest.mark.client("anthropic", MESSAGES)
def test_leaving_a_stream_frees_every_lease(
    demo_swarm: ServedSwarm, client: anthropic.Anthropic, model: str
) -> None:
    with client.messages.stream(model=model, messages=QUESTION, max_tokens=1000) as stream:
        next(iter(stream.text_stream))
    demo_swarm.wait_nothing_leased()
