from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gridnode.control.answer_schema import ChatMessage, GenerateRequest, Tool, ToolCall
from gridnode.control.anthropic.requests import MessagesRequest
from gridnode.control.anthropic.translation import max_calls, messages_request
from gridnode.errors import BadInput

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"name": "weather", "description": "the weather", "input_schema": {"type": "object"}}


def decode(**fields: Any) -> MessagesRequest:
    body = {"model": "tiny", "max_tokens": 16, "messages": HELLO} | fields
    return msgspec.json.decode(msgspec.json.encode(body), type=MessagesRequest)


def ask(**fields: Any) -> GenerateRequest:
    return messages_request(decode(**fields))


def text(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}} for text in texts]


def test_a_system_text_is_the_first_turn() -> None:
    expected = (ChatMessage(role="system", content="be\nbrief"), ChatMessage(role="user", content="hello"))
    assert ask(system="be\nbrief").messages == expected
    assert ask(system=text("be", "brief")).messages == expected
    assert ask(system=None).messages == expected[1:]


def test_blocks_become_turns_with_calls_and_results() -> None:
    asked = ask(
        messages=[
            *HELLO,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    *text("let me see"),
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Köln"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": text("rain")},
                    {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True},
                    *text("and now?"),
                ],
            },
        ],
        tools=[TOOL],
    )
    call = ToolCall(id="t1", name="weather", arguments='{"city": "Köln"}')
    assert asked.messages == (
        ChatMessage(role="user", content="hello"),
        ChatMessage(role="assistant", content="let me see", tool_calls=(call,)),
        ChatMessage(role="tool", content="rain", tool_call_id="t1", name="weather"),
        ChatMessage(role="tool", content="Error: no", tool_call_id="t1", name="weather"),
        ChatMessage(role="user", content="and now?"),
    )
    assert asked.tools == (Tool(name="weather", description="the weather", parameters={"type": "object"}),)


def test_turns_of_one_speaker_are_one_turn() -> None:
    asked = ask(messages=[*HELLO, {"role": "user", "content": text("are", "you there?")}])
    assert asked.messages == (ChatMessage(role="user", content="hello\nare\nyou there?"),)


def test_values_are_kept() -> None:
    asked = ask(temperature=0.5, top_k=7, top_p=0.9, stop_sequences=["END", " "], max_tokens=3)
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.sampling.top_p) == (0.5, 7, 0.9)
    assert (asked.stop, asked.max_tokens) == (("END",), 3)
    assert ask().sampling.temperature == 1.0
    assert ask().sampling.seed != ask().sampling.seed


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "weather"}, "weather"),
    ],
)
def test_the_choice_of_tools(choice: dict[str, Any], expected: str) -> None:
    assert ask(tools=[TOOL], tool_choice=choice).tool_choice == expected
    assert max_calls(decode(tool_choice=choice)) is None
    assert max_calls(decode(tool_choice=choice | {"disable_parallel_tool_use": True})) == 1


@pytest.mark.parametrize("place", ["output_format", "output_config"])
def test_a_schema_for_the_answer(place: str) -> None:
    wanted = {"type": "json_schema", "schema": {"type": "array"}}
    asked = ask(**{place: {"format": wanted} if place == "output_config" else wanted})
    assert asked.json_schema == '{"type": "array"}'


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"messages": [*HELLO, {"role": "assistant", "content": "The"}]}, "last message"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "'image'"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"temperature": -1}, "temperature"),
        ({"stop_sequences": ["x" * 300]}, "$.stop"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(BadInput) as failed:
        ask(**fields)
    assert part in str(failed.value)
