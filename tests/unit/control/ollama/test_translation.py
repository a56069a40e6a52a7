from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gridnode.control.answer_schema import GenerateRequest, Tool, ToolCall
from gridnode.control.ollama.requests import OllamaChat, OllamaPrompt
from gridnode.control.ollama.translation import UNSAID_MAX_TOKENS, chat_request, prompt_request
from gridnode.errors import BadInput

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> GenerateRequest:
    body = {"model": "tiny", "messages": HELLO} | fields
    return chat_request(msgspec.json.decode(msgspec.json.encode(body), type=OllamaChat))


def prompt(**fields: Any) -> GenerateRequest:
    body = {"model": "tiny", "prompt": "hello"} | fields
    return prompt_request(msgspec.json.decode(msgspec.json.encode(body), type=OllamaPrompt))


def test_what_nobody_says_is_what_ollama_takes() -> None:
    asked = chat()
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.8, 40, 0.9)
    assert sampling.repetition_penalty == 1.0
    assert asked.max_tokens == UNSAID_MAX_TOKENS
    assert chat().sampling.seed != sampling.seed


def test_options_are_kept() -> None:
    asked = chat(
        options={
            "temperature": 0,
            "top_k": 7,
            "top_p": 0.5,
            "seed": 11,
            "num_predict": 5,
            "stop": ["END", "\n\n"],
            "repeat_penalty": 1.2,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "num_gpu": 99,
            "num_thread": 4,
        }
    )
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.sampling.top_p) == (0.0, 7, 0.5)
    assert (asked.sampling.seed, asked.sampling.repetition_penalty) == (11, 1.2)
    assert (asked.max_tokens, asked.stop) == (5, ("END", "\n\n"))
    assert (asked.presence_penalty, asked.frequency_penalty) == (0.5, -0.5)


def test_limits_that_mean_none() -> None:
    asked = chat(options={"num_predict": -1, "top_k": -1, "seed": -1, "stop": "END"})
    assert asked.max_tokens == UNSAID_MAX_TOKENS
    assert asked.sampling.top_k == 0
    assert asked.stop == ("END",)
    assert chat(options={"repeat_penalty": 1.3, "repeat_last_n": 0}).sampling.repetition_penalty == 1.0


@pytest.mark.parametrize("name", ["tiny", "tiny:latest"])
def test_the_tag_latest_says_nothing(name: str) -> None:
    assert chat(model=name).model == "tiny"


def test_tools_and_calls_go_through() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    called = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
    offered = {"name": "weather", "description": "the weather", "parameters": parameters}
    asked = chat(
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_name": "weather", "content": "rain"},
        ],
        tools=[{"type": "function", "function": offered}],
    )
    assert asked.tools == (Tool(name="weather", description="the weather", parameters=parameters),)
    assert asked.messages[1].tool_calls == (
        ToolCall(id="call_0", name="weather", arguments='{"city": "Köln"}'),
    )
    assert (asked.messages[2].role, asked.messages[2].name) == ("tool", "weather")


def test_a_format_is_a_schema() -> None:
    assert chat(format="json").json_schema == '{"type":"object"}'
    assert chat(format={"type": "array"}).json_schema == '{"type": "array"}'
    assert chat(format="").json_schema == ""


def test_a_prompt_is_a_conversation_unless_it_is_raw() -> None:
    asked = prompt(system="be brief")
    assert [(message.role, message.content) for message in asked.messages] == [
        ("system", "be brief"),
        ("user", "hello"),
    ]
    raw = prompt(raw=True)
    assert (raw.prompt, raw.messages) == ("hello", ())


def test_logprobs_are_asked_for() -> None:
    assert chat().top_logprobs is None
    assert chat(logprobs=True).top_logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).top_logprobs == 3


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"options": {"mirostat": 2}}, "mirostat"),
        ({"options": {"min_p": 0.1}}, "min_p"),
        ({"options": {"temperature": -1}}, "temperature"),
        ({"options": {"stop": ["x"] * 17}}, "$.stop"),
        ({"options": {"presence_penalty": 9}}, "$.presence_penalty"),
        ({"format": "yaml"}, "yaml"),
        ({"think": True}, "think"),
        ({"messages": [{"role": "user", "content": "see", "images": ["aaaa"]}]}, "images"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(BadInput) as failed:
        chat(**fields)
    assert part in str(failed.value)


@pytest.mark.parametrize("name", ["suffix", "template"])
def test_fields_without_a_counterpart_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match=name):
        prompt(**{name: "x"})
