"""What a request may ask of an answer beyond its text, through two real nodes with the demo model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nodes import Swarm, ask, collect, running_swarm
from transformers import AutoModelForCausalLM

from gridnode.control.answer_schema import (
    ChatMessage,
    ChosenLogprob,
    Delta,
    EmbedRequest,
    GenerateRequest,
    Tool,
    Waiting,
)
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.errors import BadInput, CacheFull

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = Tool(
    name="get_weather",
    description="Tells the weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    },
)
QUESTION = (ChatMessage(role="user", content="Describe Ada, 36 years old, as JSON."),)

Scenario = Callable[[Swarm], Awaitable[None]]


def run_in_swarm(model: Path, *scenarios: Scenario) -> None:
    async def run() -> None:
        spans = [Span(0, 15), Span(15, 30)]
        async with running_swarm(model, spans, quantization=QuantFormat.INT8) as swarm:
            # The second node has what it needs to understand texts too: it serves the same model.
            for scenario in scenarios:
                await scenario(swarm)
            await swarm.wait_nothing_leased()

    asyncio.run(run())


def test_answers_take_the_shape_that_was_asked_for(demo_model_path: Path) -> None:
    run_in_swarm(
        demo_model_path,
        json_keeps_to_its_schema,
        a_schema_that_cannot_be_enforced_is_refused,
        a_required_tool_is_called,
        tools_that_are_not_called_leave_the_answer_alone,
        logprobs_tell_the_choice,
        forbidden_tokens_do_not_come,
        penalties_stop_repetition,
        choosing_here_or_at_the_last_hop_is_the_same,
        texts_of_one_meaning_are_near_each_other,
    )


async def json_keeps_to_its_schema(swarm: Swarm) -> None:
    for seed in range(3):
        request = GenerateRequest(
            messages=QUESTION,
            json_schema=json.dumps(PERSON),
            sampling=SamplingParams(temperature=1.5, seed=seed),
            max_tokens=120,
        )
        answer = await collect(swarm.nodes[0], request)
        person = json.loads(answer.text)
        assert answer.finished.reason == "stop"
        assert set(person) == {"name", "age"}
        assert isinstance(person["age"], int)


async def a_schema_that_cannot_be_enforced_is_refused(swarm: Swarm) -> None:
    with pytest.raises(BadInput, match="schema cannot be used"):
        await collect(swarm.nodes[0], GenerateRequest(messages=QUESTION, json_schema='{"type": "nonsense"}'))


async def a_required_tool_is_called(swarm: Swarm) -> None:
    request = GenerateRequest(
        messages=(ChatMessage(role="user", content="What is the weather in Oslo?"),),
        tools=(WEATHER,),
        tool_choice="required",
        max_tokens=80,
    )
    answer = await collect(swarm.nodes[0], request)
    assert answer.text == ""
    assert answer.finished.reason == "tool_calls"
    [call] = answer.finished.tool_calls
    assert call.name == "get_weather"
    assert isinstance(json.loads(call.arguments)["city"], str)
    # The result of the call goes back into the conversation.
    messages = (
        *request.messages,
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="tool", tool_call_id=call.id, name=call.name, content="3 degrees, rain"),
    )
    again = await collect(swarm.nodes[0], GenerateRequest(messages=messages, tools=(WEATHER,), max_tokens=4))
    assert again.finished.prompt_tokens > answer.finished.prompt_tokens
    with pytest.raises(BadInput, match="get_time"):
        await collect(
            swarm.nodes[0], GenerateRequest(messages=QUESTION, tools=(WEATHER,), tool_choice="get_time")
        )


async def tools_that_are_not_called_leave_the_answer_alone(swarm: Swarm) -> None:
    plain = GenerateRequest(messages=QUESTION, max_tokens=8)
    offered = GenerateRequest(messages=QUESTION, max_tokens=8, tools=(WEATHER,), tool_choice="none")
    assert (await collect(swarm.nodes[0], plain)).text == (await collect(swarm.nodes[0], offered)).text


async def logprobs_tell_the_choice(swarm: Swarm) -> None:
    told: list[ChosenLogprob] = []
    request = GenerateRequest(prompt="The capital of France is", top_logprobs=3, max_tokens=4)
    async with contextlib.aclosing(swarm.nodes[0].generate(request)) as events:
        async for event in events:
            if isinstance(event, Delta):
                assert len(event.logprobs) == len(event.token_ids)
                told += event.logprobs
    assert len(told) == 4
    for entry in told:
        assert entry.chosen == entry.top[0]
        assert len(entry.top) == 3
        assert [top.logprob for top in entry.top] == sorted((top.logprob for top in entry.top), reverse=True)
        assert math.fsum(math.exp(top.logprob) for top in entry.top) <= 1.0
    assert told[0].chosen.text == " Paris"


async def forbidden_tokens_do_not_come(swarm: Swarm) -> None:
    usual = await ask(swarm.nodes[0], [504, 3575, 282], max_tokens=6)
    forbidden = dict.fromkeys(usual.token_ids, -100.0)
    other = await ask(swarm.nodes[0], [504, 3575, 282], max_tokens=6, logit_bias=forbidden)
    assert not set(other.token_ids) & set(usual.token_ids)


async def penalties_stop_repetition(swarm: Swarm) -> None:
    prompt = [260, 1165, 260, 1165, 260, 1165]
    usual = await ask(swarm.nodes[0], prompt, max_tokens=24)
    varied = await ask(swarm.nodes[0], prompt, max_tokens=24, frequency_penalty=2.0, presence_penalty=2.0)
    assert len(set(varied.token_ids)) > len(set(usual.token_ids))


async def choosing_here_or_at_the_last_hop_is_the_same(swarm: Swarm) -> None:
    sampling = SamplingParams(temperature=0.8, top_p=0.9, repetition_penalty=1.2, seed=7)
    there = await ask(swarm.nodes[0], [504, 3575], sampling=sampling)
    here = await ask(swarm.nodes[0], [504, 3575], sampling=sampling, top_logprobs=0)
    assert there.token_ids == here.token_ids


async def texts_of_one_meaning_are_near_each_other(swarm: Swarm) -> None:
    request = EmbedRequest(
        texts=(
            "The cat sat on the mat.",
            "A kitten is sitting on a rug.",
            "Interest rates rose by 2 percent.",
        )
    )
    embedded = await swarm.nodes[0].embed(request)
    cat, kitten, rates = np.array(embedded.vectors)
    assert np.linalg.norm(embedded.vectors, axis=1) == pytest.approx([1.0, 1.0, 1.0])
    assert cat @ kitten > max(cat @ rates, kitten @ rates)
    with pytest.raises(BadInput, match="without tokens"):
        await swarm.nodes[0].embed(EmbedRequest(token_ids=((),)))


@pytest.mark.parametrize("spans", [[Span(0, 4)], [Span(0, 1), Span(1, 4)]])
def test_vectors_are_means_of_the_last_hidden_states(tiny_llama: Path, spans: list[Span]) -> None:
    token_ids = tuple(range(3, 200))
    longer = tuple(i % 200 for i in range(250))
    whole = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).base_model
    expected = []
    for ids in (token_ids, longer):
        with torch.inference_mode():
            mean = whole(torch.tensor([ids])).last_hidden_state.mean(dim=1)[0].numpy()
        expected.append(mean / np.linalg.norm(mean))

    async def scenario() -> None:
        async with running_swarm(tiny_llama, spans) as swarm:
            embedded = await swarm.nodes[0].embed(EmbedRequest(token_ids=(token_ids, longer)))
            assert np.array(embedded.vectors) == pytest.approx(np.array(expected), abs=1e-5)
            assert embedded.prompt_tokens == len(token_ids) + len(longer)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_answers_wait_in_line_for_room(tiny_llama: Path) -> None:
    """B7."""

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            [node] = swarm.nodes
            whole = node.status().total_cache_tokens
            limit = min(whole, 256)  # the longest session of the tiny model
            holders = [
                node.generate(GenerateRequest(token_ids=(1,), max_tokens=limit - 1, ignore_eos=True))
                for _ in range(whole // limit + 1)
            ]
            begun = [holder for holder in holders if await _begins(holder)]
            assert 0 < len(begun) < len(holders)
            waiter = node.generate(GenerateRequest(token_ids=(2,), max_tokens=limit - 1, max_wait_s=60.0))
            first = await anext(waiter)
            assert isinstance(first, Waiting)
            assert first.position == 0
            assert "are free" in first.text
            await begun[0].aclose()
            async for event in waiter:
                assert not isinstance(event, Waiting)
            for holder in holders:
                await holder.aclose()
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


async def _begins(answer: object) -> bool:
    try:
        await anext(answer)  # type: ignore[call-overload]
    except CacheFull:
        return False
    return True
