"""`POST /v1/chat/completions`: what is asked of the node, and how its answer is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from door_calls import call, comments, stream_data
from fake_node import HOP, STATUS, FakeNode

from gridnode.control.answer_schema import (
    ChatMessage,
    ChosenLogprob,
    Delta,
    Finished,
    Logprob,
    Rerouted,
    Started,
    Tool,
    ToolCall,
    Waiting,
)
from gridnode.core.route_wishes import RouteWishes
from gridnode.errors import CacheFull, ContextFull, ModelUnknown, NoRoute, PeerLost

HELLO = [{"role": "user", "content": "Hello"}]
STARTED = Started(model="tiny", route=(HOP,), prompt_tokens=5, context_tokens=64, context_limit_tokens=8192)
FINISHED = Finished(
    reason="stop", prompt_tokens=5, completion_tokens=2, ttft_s=0.05, decode_tokens_per_s=40.0, route=(HOP,)
)
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Oslo"}')
CALLS = Finished(
    reason="tool_calls",
    prompt_tokens=5,
    completion_tokens=9,
    ttft_s=0.05,
    decode_tokens_per_s=40.0,
    route=(HOP,),
    tool_calls=(CALL, ToolCall(id="call_2", name="get_weather", arguments="{}")),
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object"},
    },
}


def chat(node: FakeNode, **fields: Any) -> httpx.Response:
    return call(node, "POST", "/v1/chat/completions", {"model": "tiny", "messages": HELLO, **fields})


def refused(**fields: Any) -> dict[str, Any]:
    """Return the error for a request that never reaches the node."""
    node = FakeNode()
    response = chat(node, **fields)
    assert response.status_code == 400, response.text
    assert node.requests == []
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


def test_a_whole_answer_has_usage_and_figures() -> None:
    response = chat(FakeNode())
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "tiny"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert body["gridnode"]["route"][0]["hop_s"] == 0.0125
    assert response.headers["x-gridnode-route"] == "aaaaaaaa 0:30"
    assert response.headers["x-gridnode-context"] == "8/64"
    assert "hop0;dur=12.5" in response.headers["server-timing"]


def test_the_usage_tells_what_became_of_drafts() -> None:
    node = FakeNode()
    node.ending = {"draft_tokens": 5, "accepted_draft_tokens": 2, "laps": 1}
    response = chat(node)
    assert response.json()["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": 2,
        "rejected_prediction_tokens": 3,
    }
    assert response.json()["gridnode"]["laps"] == 1
    assert response.headers["x-gridnode-drafts"] == "2/5 in 1 laps"


def test_openai_defaults_sample_with_a_random_seed() -> None:
    node = FakeNode()
    chat(node)
    chat(node)
    first, second = (request.sampling for request in node.requests)
    assert first.temperature == first.top_p == 1.0
    assert first.seed != second.seed


def test_the_sampling_that_is_asked_for_reaches_the_node() -> None:
    node = FakeNode()
    chat(
        node,
        temperature=0.5,
        top_p=0,
        top_k=40,
        seed=-1,
        stop="END",
        max_completion_tokens=7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"42": -100},
        logprobs=True,
        top_logprobs=3,
        max_wait_s=2,
        routing={"allow": ["Ada"]},
    )
    [request] = node.requests
    assert request.sampling.temperature == 0.5
    assert 0 < request.sampling.top_p < 1e-6
    assert request.sampling.top_k == 40
    assert request.sampling.seed == 2**63 - 1
    assert request.stop == ("END",)
    assert request.max_tokens == 7
    assert (request.presence_penalty, request.frequency_penalty) == (0.5, -0.5)
    assert request.logit_bias == {42: -100.0}
    assert request.top_logprobs == 3
    assert request.max_wait_s == 2
    assert request.routing == RouteWishes(allow=("Ada",))


def test_a_full_swarm_is_waited_for_and_a_gap_is_not() -> None:
    node = FakeNode()
    chat(node)
    [model] = STATUS.models
    node.become(replace(STATUS, models=(replace(model, gaps=((3, 5),)),)))
    chat(node)
    chat(node, max_wait_s=7)
    assert [request.max_wait_s for request in node.requests] == [20, 0, 7]


def test_parts_of_text_and_newer_roles_are_understood() -> None:
    node = FakeNode()
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    chat(node, messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    assert node.requests[0].messages == (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="one\ntwo"),
    )


def test_results_of_tools_go_back_with_the_name_of_the_tool() -> None:
    node = FakeNode()
    called = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    chat(
        node,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ],
    )
    [request] = node.requests
    assert request.tool_choice == "get_weather"
    assert request.tools == (
        Tool(name="get_weather", description="Tells the weather.", parameters={"type": "object"}),
    )
    assert request.messages[1].tool_calls[0].name == "get_weather"
    assert request.messages[2] == ChatMessage(
        role="tool", content="rain", tool_call_id="call_1", name="get_weather"
    )


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        ({"type": "text"}, ""),
        ({"type": "json_object"}, '{"type":"object"}'),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}},
            '{"type":"array"}',
        ),
    ],
)
def test_formats_become_schemas(response_format: dict[str, Any], schema: str) -> None:
    node = FakeNode()
    chat(node, response_format=response_format)
    assert node.requests[0].json_schema == schema


def test_several_choices_have_seeds_of_their_own() -> None:
    node = FakeNode()
    body = chat(node, n=3, seed=10).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"Paris."}
    assert sorted(request.sampling.seed for request in node.requests) == [10, 11, 12]
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}


def test_a_choice_that_fails_cancels_the_others() -> None:
    node = FakeNode(error=PeerLost("gone"), fail_after=1)
    assert chat(node, n=3).status_code == 502
    assert node.num_running == 0


def test_a_stream_tells_role_text_and_reason() -> None:
    response = chat(FakeNode(), stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-gridnode-route"] == "aaaaaaaa 0:30"
    assert response.headers["x-gridnode-context"] == "5/64"
    chunks = stream_data(response)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Par"},
        {"content": "is"},
        {"content": "."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert response.text.endswith("data: [DONE]\n\n")
    assert not any("usage" in chunk for chunk in chunks)


def test_the_last_chunk_has_usage_and_figures_if_wanted() -> None:
    *_, last = stream_data(chat(FakeNode(), stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert last["gridnode"]["route"][0]["short"] == "aaaaaaaa"


def test_waiting_and_rerouting_are_comments() -> None:
    waiting = Waiting(position=2, text="cannot lease 64 tokens\nof KV cache")
    script = (waiting, STARTED, Rerouted(route=(HOP, HOP)), Delta(text="Hi", token_ids=(1,)), FINISHED)
    response = chat(FakeNode(script=script), stream=True)
    assert comments(response) == [
        "waiting, 2 answers are served first: cannot lease 64 tokens of KV cache",
        "rerouted to aaaaaaaa 0:30 > aaaaaaaa 0:30",
    ]
    assert len(stream_data(response)) == 3


def test_tool_calls_are_told_whole_and_in_chunks() -> None:
    node = FakeNode(script=(STARTED, CALLS))
    [choice] = chat(node, tools=[WEATHER]).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0] == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
    }
    _, first, second, end = stream_data(chat(node, tools=[WEATHER], stream=True))
    assert first["choices"][0]["delta"]["tool_calls"][0]["index"] == 0
    assert second["choices"][0]["delta"]["tool_calls"][0]["id"] == "call_2"
    assert end["choices"][0]["finish_reason"] == "tool_calls"


def test_one_call_at_a_time_keeps_the_first() -> None:
    node = FakeNode(script=(STARTED, CALLS))
    [choice] = chat(node, tools=[WEATHER], parallel_tool_calls=False).json()["choices"]
    assert [found["id"] for found in choice["message"]["tool_calls"]] == ["call_1"]


def test_logprobs_tell_bytes_and_alternatives() -> None:
    half = Logprob(token_id=7, text="\N{REPLACEMENT CHARACTER}", logprob=-1.5)
    told = ChosenLogprob(chosen=half, top=(Logprob(token_id=8, text="é", logprob=-0.5), half))
    node = FakeNode(script=(STARTED, Delta(text="", token_ids=(7,), logprobs=(told,)), FINISHED))
    expected = {
        "token": "\N{REPLACEMENT CHARACTER}",
        "bytes": None,
        "logprob": -1.5,
        "top_logprobs": [
            {"token": "é", "bytes": [195, 169], "logprob": -0.5},
            {"token": "\N{REPLACEMENT CHARACTER}", "bytes": None, "logprob": -1.5},
        ],
    }
    whole = chat(node, logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]
    chunk = stream_data(chat(node, logprobs=True, top_logprobs=2, stream=True))[1]["choices"][0]["logprobs"]
    assert whole == chunk == {"content": [expected], "refusal": None}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_token": 5}, "max_token", "unknown field 'max_token'; is it 'max_tokens'?"),
        ({"xyzzy": 5}, "xyzzy", "unknown field 'xyzzy'"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"temperature": 3}, "temperature", "<= 2.0"),
        ({"messages": []}, "messages", "length >= 1"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "got `int`"),
        ({"messages": [{"role": "function", "content": ""}]}, "messages[0].role", "function"),
        ({"n": 99}, "n", "<= 16"),
        ({"functions": [{}]}, "functions", "use 'tools'"),
        ({"web_search_options": {}}, "web_search_options", "does not search the web"),
        ({"modalities": ["text", "audio"]}, "modalities", "text only"),
        ({"top_logprobs": 2}, "top_logprobs", "needs 'logprobs'"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "'stream'"),
        ({"tool_choice": "required"}, "tool_choice", "tools given are: none"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "has no schema"),
        ({"response_format": {"type": "yaml"}}, "response_format.type", "yaml"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    error = refused(**fields)
    assert error["param"] == param
    assert words in error["message"]


def test_images_are_refused_by_place() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = refused(messages=[{"role": "user", "content": [{"type": "text", "text": "See"}, image]}])
    assert error["param"] == "messages[0].content[1]"
    assert "read text only" in error["message"]


def test_a_result_without_its_call_keeps_the_name_it_brings() -> None:
    node = FakeNode()
    said = {"role": "tool", "tool_call_id": "lost", "name": "get_weather", "content": "rain"}
    chat(node, messages=[{**HELLO[0], "name": "Ada"}, said], ignore_eos=True)
    assert [message.name for message in node.requests[0].messages] == ["", "get_weather"]
    assert node.requests[0].ignore_eos


def test_what_changes_nothing_is_ignored() -> None:
    node = FakeNode()
    response = chat(
        node,
        user="me",
        store=True,
        metadata={"a": "b"},
        service_tier="auto",
        reasoning_effort="low",
        modalities=["text"],
        functions=None,
        stop=None,
        n=None,
    )
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    response = call(FakeNode(), "POST", "/v1/chat/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_input"


@pytest.mark.parametrize(
    ("error", "status", "type_", "code", "words"),
    [
        (ContextFull(9000, 8192), 400, "invalid_request_error", "context_length_exceeded", "8192 tokens"),
        (ModelUnknown("nobody serves llama"), 404, "invalid_request_error", "model_not_found", "llama"),
        (CacheFull(900, 100), 503, "server_error", "cache_full", "900"),
        (NoRoute("tiny", 30, ((10, 20),)), 503, "server_error", "no_route", "--blocks 10:20"),
        (PeerLost("bbbbbbbb is gone"), 502, "server_error", "peer_lost", "bbbbbbbb"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_the_shape_of_openai(
    error: Exception, status: int, type_: str, code: str, words: str, stream: bool
) -> None:
    response = chat(FakeNode(error=error), stream=stream)  # type: ignore[arg-type]
    assert response.status_code == status
    told = response.json()["error"]
    assert (told["type"], told["code"]) == (type_, code)
    assert words in told["message"]
    assert ("retry-after" in response.headers) == (status == 503)


def test_an_error_in_the_middle_of_a_stream_is_its_last_event() -> None:
    response = chat(FakeNode(error=PeerLost("bbbbbbbb is gone"), fail_after=1), stream=True)
    *_, last = stream_data(response)
    assert last["error"]["code"] == "peer_lost"
    assert "[DONE]" not in response.text
