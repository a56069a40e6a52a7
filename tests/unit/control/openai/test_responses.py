"""`POST /v1/responses`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from door_calls import call, stream_data
from fake_node import HOP, FakeNode

from gridnode.control.answer_schema import (
    ChatMessage,
    ChosenLogprob,
    Delta,
    Finished,
    Logprob,
    Started,
    ToolCall,
)
from gridnode.errors import ContextFull, PeerLost

STARTED = Started(model="tiny", route=(HOP,), prompt_tokens=5, context_tokens=64)
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Oslo"}')


def finished(reason: Any, *calls: ToolCall) -> Finished:
    return Finished(
        reason=reason,
        prompt_tokens=5,
        completion_tokens=3,
        ttft_s=0.05,
        decode_tokens_per_s=40.0,
        route=(HOP,),
        tool_calls=calls,
    )


def respond(node: FakeNode, **fields: Any) -> httpx.Response:
    return call(node, "POST", "/v1/responses", {"model": "tiny", "input": "Hello", **fields})


def test_a_text_is_answered() -> None:
    node = FakeNode()
    response = respond(node, instructions="Be brief.", metadata={"a": "b"})
    body = response.json()
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    [message] = body["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"][0]["text"] == "Paris."
    assert body["usage"]["input_tokens"] == 5
    assert body["usage"]["total_tokens"] == 8
    assert body["metadata"] == {"a": "b"}
    assert body["store"] is False
    assert body["gridnode"]["route"][0]["short"] == "aaaaaaaa"
    assert response.headers["x-gridnode-context"] == "8/64"
    assert node.requests[0].messages == (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Hello"),
    )


def test_items_become_a_conversation() -> None:
    node = FakeNode()
    respond(
        node,
        tools=[WEATHER],
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Asking."}]},
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        ],
    )
    called = ToolCall(id="call_1", name="get_weather", arguments="{}")
    assert node.requests[0].messages == (
        ChatMessage(role="user", content="Weather?"),
        ChatMessage(role="assistant", content="Asking.", tool_calls=(called,)),
        ChatMessage(role="tool", content="rain", tool_call_id="call_1", name="get_weather"),
    )


def test_formats_tools_and_logprobs_reach_the_node() -> None:
    node = FakeNode()
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "array"}}
    body = respond(
        node,
        text={"format": schema},
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "get_weather"},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        max_output_tokens=9,
        temperature=0,
    ).json()
    [request] = node.requests
    assert request.json_schema == '{"type":"array"}'
    assert request.tool_choice == "get_weather"
    assert request.top_logprobs == 2
    assert request.max_tokens == 9
    assert request.sampling.is_greedy
    assert body["text"]["format"] == schema
    assert body["tool_choice"] == {"type": "function", "name": "get_weather"}


def test_a_stream_has_the_events_of_openai_in_order() -> None:
    response = respond(FakeNode(), stream=True)
    events = stream_data(response)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    names = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert len({event["item_id"] for event in events if "item_id" in event}) == 1
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Paris."
    assert events[-1]["response"]["id"] == events[0]["response"]["id"]
    assert response.headers["x-gridnode-route"] == "aaaaaaaa 0:30"


def test_a_call_is_an_item_whole_and_in_a_stream() -> None:
    node = FakeNode(script=(STARTED, finished("tool_calls", CALL)))
    [item] = respond(node, tools=[WEATHER]).json()["output"]
    assert (item["type"], item["call_id"], item["arguments"]) == ("function_call", "call_1", CALL.arguments)
    events = stream_data(respond(node, tools=[WEATHER], stream=True))
    assert [event["type"] for event in events[2:]] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[2]["item"]["arguments"] == ""
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_ran_into_its_limit_is_incomplete(stream: bool) -> None:
    node = FakeNode(script=(STARTED, Delta(text="Par", token_ids=(1,)), finished("length")))
    response = respond(node, stream=stream)
    body = stream_data(response)[-1]["response"] if stream else response.json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_words_is_an_empty_message(stream: bool) -> None:
    response = respond(FakeNode(script=(STARTED, finished("stop"))), stream=stream)
    body = stream_data(response)[-1]["response"] if stream else response.json()
    assert body["output"][0]["content"][0]["text"] == ""


def test_logprobs_of_half_a_character_have_no_bytes() -> None:
    half = Logprob(token_id=7, text="\N{REPLACEMENT CHARACTER}", logprob=-1.5)
    said = Delta(text="", token_ids=(7,), logprobs=(ChosenLogprob(chosen=half),))
    node = FakeNode(script=(STARTED, said, finished("stop")))
    body = respond(node, top_logprobs=1).json()
    assert body["output"][0]["content"][0]["logprobs"][0]["bytes"] == []


def test_a_stream_that_breaks_ends_as_failed() -> None:
    *_, last = stream_data(respond(FakeNode(error=PeerLost("gone"), fail_after=1), stream=True))
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert "gone (peer_lost)" in last["response"]["error"]["message"]


def test_errors_before_the_stream_are_ordinary_answers() -> None:
    response = respond(FakeNode(error=ContextFull(9000, 8192)), stream=True)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole conversation"),
        ({"conversation": "conv_1"}, "conversation", "send the whole conversation"),
        ({"background": True}, "background", "use 'stream'"),
        ({"truncation": "auto"}, "truncation", "never cut"),
        ({"input": ""}, "input", "empty"),
        ({"input": []}, "input", "length >= 1"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "item_reference"),
        ({"input": [{"role": "user"}]}, "input[0]", "needs 'role' and 'content'"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0]", "'call_id'"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0]", "'call_id'"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "web_search"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
            "read text only",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    node = FakeNode()
    response = respond(node, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert words in response.json()["error"]["message"]
    assert node.requests == []


def test_what_openai_sends_by_default_may_be_sent() -> None:
    response = respond(FakeNode(), truncation="disabled", background=False, store=True, reasoning={})
    assert response.status_code == 200, response.text
