"""OpenAI's own client against real nodes with the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field
from served_swarm import ServedSwarm

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]

CHAT = "POST /v1/chat/completions"
TEXT = "POST /v1/completions"
ITEMS = "POST /v1/responses"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


class Person(BaseModel):
    """What answers are parsed into."""

    name: str = Field(max_length=20)
    age: int


@pytest.fixture(scope="module")
def client(demo_swarm: ServedSwarm) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(
        base_url=f"{demo_swarm.url}/v1", api_key="not needed here", max_retries=0, http_client=http
    ) as found:
        yield found


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


@pytest.mark.client("openai", "GET /v1/models")
@pytest.mark.client("openai", "GET /v1/models/{model}")
def test_models_are_listed_with_their_context(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    found = client.models.retrieve(model.id)
    assert found == model
    assert found.model_dump()["context_window"] == 2048


@pytest.mark.client("openai", CHAT)
def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 12}
    raw = client.chat.completions.with_raw_response.create(**asked)
    whole = raw.parse()
    text = whole.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    assert raw.headers["x-gridnode-route"].count(">") == 1
    assert raw.headers["x-gridnode-context"].endswith("/2048")
    assert raw.headers["server-timing"].count("hop") == 2

    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage == whole.usage
    figures = last.model_dump()["gridnode"]
    assert figures["context_limit_tokens"] == 2048
    assert all(hop["hop_s"] > 0 and hop["sent_bytes"] > 0 for hop in figures["route"])


@pytest.mark.client("openai", CHAT)
def test_seeds_decide_and_choices_differ(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": QUESTION, "temperature": 1.5, "max_tokens": 12, "n": 2}
    first = [choice.message.content for choice in client.chat.completions.create(**asked, seed=1).choices]
    again = [choice.message.content for choice in client.chat.completions.create(**asked, seed=1).choices]
    assert first == again
    assert first[0] != first[1]


@pytest.mark.client("openai", CHAT)
def test_logprobs_tell_that_the_likeliest_token_was_taken(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=4, logprobs=True, top_logprobs=2
    )
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert len(told.content) == 4
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in told.content)


@pytest.mark.client("openai", CHAT)
def test_a_stop_text_ends_the_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_completion_tokens=30, stop=["Paris"]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" not in (answer.choices[0].message.content or "")


@pytest.mark.client("openai", CHAT)
def test_an_answer_is_parsed_into_a_class(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Describe Ada, 36 years old, as JSON."}],
        response_format=Person,
        temperature=1.2,
        seed=3,
        max_tokens=80,
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


@pytest.mark.client("openai", CHAT)
def test_a_tool_is_called_and_its_result_goes_back(client: openai.OpenAI, model: str) -> None:
    asked: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    answer = client.chat.completions.create(
        model=model, messages=asked, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=60
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert "city" in json.loads(call.function.arguments)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "3 degrees, rain"}
    again = client.chat.completions.create(
        model=model, messages=[*asked, choice.message, result], tools=[WEATHER], max_tokens=4
    )
    assert again.usage is not None
    assert answer.usage is not None
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


@pytest.mark.client("openai", CHAT)
def test_a_call_is_streamed(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model, messages=QUESTION, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=60
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].message.tool_calls[0].function.name == "get_weather"


@pytest.mark.client("openai", CHAT)
def test_too_long_a_prompt_is_refused_with_numbers(client: openai.OpenAI, model: str) -> None:
    long: Any = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(
        openai.BadRequestError, match=r"maximum context length is 2048 tokens.*needs \d{4}"
    ) as info:
        client.chat.completions.create(model=model, messages=long)
    assert info.value.code == "context_length_exceeded"


@pytest.mark.client("openai", CHAT)
def test_an_unknown_model_is_not_found(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match=f"served now: .*{model}") as info:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert info.value.code == "model_not_found"


@pytest.mark.client("openai", CHAT)
def test_a_full_swarm_says_when_to_come_back(
    demo_swarm: ServedSwarm, client: openai.OpenAI, model: str
) -> None:
    asked: Any = {"model": model, "messages": QUESTION, "stream": True, "max_tokens": 1900}
    with client.chat.completions.create(**asked, logit_bias={"2": -100}) as stream:
        next(iter(stream))
        with pytest.raises(openai.InternalServerError, match=r"lease 19\d\d tokens .* \d\d\d are") as info:
            client.chat.completions.create(**asked, extra_body={"max_wait_s": 0})
        assert info.value.status_code == 503
        assert info.value.code == "cache_full"
        assert int(info.value.response.headers["retry-after"]) > 0
    # Whoever leaves gives every lease back.
    demo_swarm.wait_nothing_leased()


@pytest.mark.client("openai", TEXT)
def test_texts_are_continued(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    whole = client.completions.create(**asked, logprobs=2)
    assert "Paris" in whole.choices[0].text
    assert whole.choices[0].logprobs is not None
    assert "".join(whole.choices[0].logprobs.tokens or []) == whole.choices[0].text
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    both = client.completions.create(**asked | {"prompt": ["The capital of France is", "One, two,"]})
    assert both.choices[0].text == whole.choices[0].text
    assert both.choices[1].text != whole.choices[0].text


@pytest.mark.client("openai", "POST /v1/embeddings")
def test_texts_that_mean_the_same_are_near(client: openai.OpenAI, model: str) -> None:
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again."]
    # The client asks for base64 by itself; what it returns are numbers again.
    vectors = [item.embedding for item in client.embeddings.create(model=model, input=texts).data]
    plain = client.embeddings.create(model=model, input=texts[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(vectors[0], abs=1e-3)
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far


@pytest.mark.client("openai", ITEMS)
def test_responses_stream_what_they_say(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "input": "What is the capital of France?", "temperature": 0}
    whole = client.responses.create(**asked, max_output_tokens=20)
    assert "Paris" in whole.output_text
    with client.responses.stream(**asked, max_output_tokens=20) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole.output_text
    assert final.usage == whole.usage


@pytest.mark.client("openai", ITEMS)
def test_responses_call_tools_and_keep_to_schemas(client: openai.OpenAI, model: str) -> None:
    tool: Any = {"type": "function", **WEATHER["function"]}
    called = client.responses.create(
        model=model, input="Weather in Oslo?", tools=[tool], tool_choice="required", temperature=0
    )
    [call] = called.output
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    again = client.responses.create(
        model=model,
        input=[{"role": "user", "content": "Weather in Oslo?"}, call, result],  # type: ignore[list-item]
        tools=[tool],
        max_output_tokens=4,
    )
    assert again.status in ("completed", "incomplete")
    parsed = client.responses.parse(
        model=model, input="Describe Ada, 36 years old, as JSON.", text_format=Person, max_output_tokens=80
    )
    assert isinstance(parsed.output_parsed, Person)


@pytest.mark.client("openai", CHAT)
def test_the_stream_goes_on_when_a_hop_dies(
    demo_swarm: ServedSwarm, client: openai.OpenAI, model: str
) -> None:
    asked: Any = {
        "model": model,
        "messages": [{"role": "user", "content": "Count from one to fifty in words."}],
        "temperature": 1,
        "seed": 5,
        "max_tokens": 120,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logit_bias": {"2": -100},  # the model's own end
    }
    undisturbed = "".join(_texts(client.chat.completions.create(**asked)))
    with client.chat.completions.create(**asked) as stream:
        hops = stream.response.headers["x-gridnode-route"].split(" > ")
        texts, last = [], None
        for number, chunk in enumerate(stream):
            if number == 10:
                demo_swarm.kill_worker(hops[-1].split()[0])
            texts.append(chunk.choices[0].delta.content or "" if chunk.choices else "")
            last = chunk
    assert "".join(texts) == undisturbed
    assert last is not None
    figures = last.model_dump()["gridnode"]
    assert figures["reroutes"] == 1
    assert figures["route"][-1]["short"] != hops[-1].split()[0]
    demo_swarm.wait_ready()
    demo_swarm.wait_nothing_leased()


def _texts(stream: Any) -> list[str]:
    return [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
