"""Ollama's own client against real nodes with the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from served_swarm import ServedSwarm

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]

CHAT = "POST /api/chat"
GENERATE = "POST /api/generate"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
BRIEF = {"temperature": 0, "num_predict": 12}


def get_weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: The city.
    """
    return f"rain in {city}"


@pytest.fixture(scope="module")
def client(demo_swarm: ServedSwarm) -> Iterator[ollama.Client]:
    with ollama.Client(host=demo_swarm.url, trust_env=False) as found:
        yield found


@pytest.fixture(scope="module")
def model(client: ollama.Client) -> str:
    (found,) = client.list().models
    assert found.model is not None
    return found.model


@pytest.mark.client("ollama", "GET /api/tags")
@pytest.mark.client("ollama", "GET /api/ps")
@pytest.mark.client("ollama", "POST /api/show")
@pytest.mark.client("ollama", "POST /api/pull")
def test_models_are_listed_shown_and_there(client: ollama.Client, model: str) -> None:
    assert model.endswith(":latest")
    (running,) = client.ps().models
    assert (running.model, running.context_length) == (model, 2048)
    shown = client.show(model)
    assert shown.modelinfo is not None
    assert shown.modelinfo["gridnode.context_length"] == 2048
    assert "tools" in (shown.capabilities or ())
    assert client.pull(model).status == "success"
    assert [progress.status for progress in client.pull(model, stream=True)] == ["success"]


@pytest.mark.client("ollama", CHAT)
def test_a_stream_says_the_same_as_a_whole_answer(client: ollama.Client, model: str) -> None:
    asked: Any = {"model": model, "messages": QUESTION, "options": BRIEF}
    whole = client.chat(**asked)
    *pieces, end = client.chat(**asked, stream=True)
    assert whole.message.content
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert (end.done, end.done_reason) == (True, whole.done_reason)
    assert end.eval_count == whole.eval_count
    assert whole.prompt_eval_count is not None
    assert whole.prompt_eval_count > 10
    assert whole.total_duration is not None
    assert whole.total_duration > 0


@pytest.mark.client("ollama", CHAT)
def test_the_name_does_without_its_tag(client: ollama.Client, model: str) -> None:
    answer = client.chat(model.removesuffix(":latest"), QUESTION, options=BRIEF)
    assert "Paris" in (answer.message.content or "")


@pytest.mark.client("ollama", GENERATE)
def test_a_raw_prompt_is_continued_as_it_stands(client: ollama.Client, model: str) -> None:
    raw = client.generate(model, "The capital of France is", raw=True, options=BRIEF)
    assert "Paris" in raw.response
    assert raw.prompt_eval_count == 5
    told = client.generate(model, "What is the capital of France?", system="Be brief.", options=BRIEF)
    assert (told.prompt_eval_count or 0) > 15
    text = "".join(
        piece.response
        for piece in client.generate(model, "The capital of France is", raw=True, options=BRIEF, stream=True)
    )
    assert text == raw.response


@pytest.mark.client("ollama", GENERATE)
def test_options_end_the_answer(client: ollama.Client, model: str) -> None:
    counting = "1, 2, 3, 4, 5,"
    stopped = client.generate(model, counting, raw=True, options={"temperature": 0, "stop": ["9"]})
    assert stopped.response == " 6, 7, 8, "
    assert stopped.done_reason == "stop"
    cut = client.generate(model, counting, raw=True, options={"temperature": 0, "num_predict": 2})
    assert (cut.done_reason, cut.eval_count) == ("length", 2)
    limited = client.generate(
        model, counting, raw=True, options={"temperature": 0, "num_ctx": stopped.prompt_eval_count + 3}
    )
    assert (limited.done_reason, limited.eval_count) == ("length", 3)


@pytest.mark.client("ollama", GENERATE)
def test_a_seed_gives_the_same_answer_again(client: ollama.Client, model: str) -> None:
    options = {"temperature": 1.5, "seed": 7, "num_predict": 12}
    first, again = (client.generate(model, "Once", raw=True, options=options).response for _ in range(2))
    assert first == again
    other = client.generate(model, "Once", raw=True, options=options | {"seed": 8}).response
    assert other != first


@pytest.mark.client("ollama", CHAT)
def test_a_format_is_kept(client: ollama.Client, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    question = [{"role": "user", "content": "Describe Ada, 36 years old, as JSON."}]
    answer = client.chat(model, question, format=schema, options={"temperature": 0, "num_predict": 64})
    assert json.loads(answer.message.content or "").keys() == {"name", "age"}


@pytest.mark.client("ollama", CHAT)
def test_tools_are_told_and_their_results_read(client: ollama.Client, model: str) -> None:
    conversation = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}],
        },
        {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")},
    ]
    bare = client.chat(model, conversation, options={"num_predict": 1})
    told = client.chat(model, conversation, tools=[get_weather], options={"num_predict": 1})
    assert (told.prompt_eval_count or 0) > (bare.prompt_eval_count or 0)


@pytest.mark.client("ollama", CHAT)
def test_logprobs_are_told(client: ollama.Client, model: str) -> None:
    answer = client.chat(
        model, QUESTION, logprobs=True, top_logprobs=2, options={"temperature": 0, "num_predict": 3}
    )
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 3
    for token in answer.logprobs:
        assert token.logprob <= 0.0
        assert token.top_logprobs is not None
        assert token.top_logprobs[0].token == token.token


@pytest.mark.client("ollama", "POST /api/embed")
@pytest.mark.client("ollama", "POST /api/embeddings")
def test_texts_become_vectors(client: ollama.Client, model: str) -> None:
    found = client.embed(model, ["a cat", "a kitten", "tax law"])
    cat, kitten, law = found.embeddings
    assert sum(x * x for x in cat) == pytest.approx(1.0, abs=1e-3)
    closeness = [sum(x * y for x, y in zip(cat, other, strict=True)) for other in (kitten, law)]
    assert closeness[0] > closeness[1]
    assert len(client.embed(model, "a cat", dimensions=8).embeddings[0]) == 8
    assert client.embeddings(model, "a cat").embedding == pytest.approx(cat, abs=1e-2)


@pytest.mark.client("ollama", CHAT)
def test_errors_are_raised_with_their_numbers(client: ollama.Client, model: str) -> None:
    with pytest.raises(ollama.ResponseError, match="nobody in the swarm serves") as unknown:
        client.chat("huge", QUESTION)
    assert unknown.value.status_code == 404
    long = [{"role": "user", "content": "word " * 3000}]
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="do not fit into a context of 2048") as full:
            list(client.chat(model, long, stream=stream))
        assert full.value.status_code == 400


@pytest.mark.client("ollama", CHAT)
def test_leaving_a_stream_frees_every_lease(
    demo_swarm: ServedSwarm, client: ollama.Client, model: str
) -> None:
    stream = client.chat(model, QUESTION, stream=True, options={"num_predict": 1000})
    next(stream)
    stream.close()
    demo_swarm.wait_nothing_leased()
