"""A swarm of real nodes answers like `transformers` on one machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from nodes import Swarm, ask, running_swarm
from transformers import AutoModelForCausalLM

from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span

pytestmark = pytest.mark.swarm

SPANS = {
    1: [Span(0, 4)],
    2: [Span(0, 2), Span(2, 4)],
    3: [Span(0, 1), Span(1, 3), Span(3, 4)],
}
PROMPTS = [[5], [1, 2, 3], list(range(10, 50)), [7] * 20, [200, 100, 50, 25, 12, 6, 3, 1]]


def reference_tokens(model: Path, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
    """Return the greedy continuation by transformers, in float32."""
    if model.suffix == ".gguf":
        whole = AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name)
    else:
        whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    whole.generation_config.eos_token_id = None
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = whole.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False
            )
        found.append(out[0, len(prompt) :].tolist())
    return found


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
@pytest.mark.parametrize("family", ["tiny_llama", "tiny_llama_mha"])
def test_greedy_tokens_equal_transformers(
    family: str, num_nodes: int, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(family)
    expected = reference_tokens(model, PROMPTS, 64)

    async def scenario() -> None:
        async with running_swarm(model, SPANS[num_nodes]) as swarm:
            answers = [await ask(swarm.nodes[0], prompt, max_tokens=64) for prompt in PROMPTS]
            assert [answer.token_ids for answer in answers] == expected
            assert {len(answer.started.route) for answer in answers} == {num_nodes}
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_seeded_sampling_gives_the_same_tokens_on_every_route(tiny_llama: Path) -> None:
    params = [
        SamplingParams(temperature=1.0, seed=7),
        SamplingParams(temperature=0.7, top_k=20, top_p=0.9, seed=8),
        SamplingParams(temperature=1.2, repetition_penalty=1.3, seed=9),
        SamplingParams(repetition_penalty=1.3),
    ]

    async def sampled(swarm: Swarm, **fields: object) -> list[list[int]]:
        return [
            (await ask(swarm.nodes[-1], [1, 2, 3], max_tokens=24, sampling=p, **fields)).token_ids
            for p in params
        ]

    async def scenario(num_nodes: int) -> list[list[list[int]]]:
        async with running_swarm(tiny_llama, SPANS[num_nodes]) as swarm:
            return [
                await sampled(swarm),
                await sampled(swarm, sample_at="client"),
                await sampled(swarm, prefill_chunk_tokens=1),
            ]

    results = [tokens for n in (1, 2, 3) for tokens in asyncio.run(scenario(n))]
    assert all(tokens == results[0] for tokens in results)
    assert len({tuple(tokens) for tokens in results[0]}) == len(params)


def test_prompts_in_chunks_give_the_same_answer(tiny_llama: Path) -> None:
    prompt = [int(n) for n in np.random.default_rng(1).integers(0, 250, 200)]

    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS[3]) as swarm:
            answers = [
                await ask(swarm.nodes[0], prompt, max_tokens=20, prefill_chunk_tokens=size)
                for size in (256, 64, 7)
            ]
            assert len({tuple(answer.token_ids) for answer in answers}) == 1

    asyncio.run(scenario())


def test_any_node_answers_and_several_at_once(tiny_llama: Path) -> None:
    expected = reference_tokens(tiny_llama, PROMPTS, 16)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS[3]) as swarm:
            answers = await asyncio.gather(
                *(ask(swarm.nodes[i % 3], prompt) for i, prompt in enumerate(PROMPTS))
            )
            assert [answer.token_ids for answer in answers] == expected
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_nodes_without_given_blocks_cover_the_model(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(1, 3)]) as swarm:
            newcomer = await swarm.start(None)
            await swarm.wait_ready()
            serving = newcomer.status().peers[0].serving
            assert serving is not None
            assert (serving.start, serving.end) == (0, 4)  # everything fits into this memory
            assert (await ask(newcomer, [1, 2, 3])).started.route[0].end == 4

    asyncio.run(scenario())


@pytest.mark.smollm
@pytest.mark.timeout(900)
def test_the_demo_model_answers_like_transformers_through_one_two_and_three_nodes(
    demo_model_path: Path,
) -> None:
    generator = np.random.default_rng(3)
    prompts = [
        [1, 9690, 198, 2683, 359, 253],
        [504, 3575, 282, 4649, 314],
        *([int(n) for n in generator.integers(3, 49000, size)] for size in (1, 17, 90)),
    ]
    expected = reference_tokens(demo_model_path, prompts, 64)
    routes = {1: [Span(0, 30)], 2: [Span(0, 15), Span(15, 30)], 3: [Span(0, 10), Span(10, 20), Span(20, 30)]}

    async def scenario(spans: list[Span]) -> None:
        # The most cuts get every prompt; fewer of them change less.
        num_prompts = len(prompts) if len(spans) == len(routes) else 2
        async with running_swarm(demo_model_path, spans) as swarm:
            for prompt, tokens in list(zip(prompts, expected, strict=True))[:num_prompts]:
                assert (await ask(swarm.nodes[-1], prompt, max_tokens=64)).token_ids == tokens

    for spans in routes.values():
        asyncio.run(scenario(spans))
