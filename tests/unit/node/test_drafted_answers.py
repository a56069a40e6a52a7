"""Answers with drafts have the distribution of the target model, whatever the drafts are.

The target is a small Markov chain, of which every probability is known; real `Generation` and `Drafting` run
over it. Seeds count up, so that a run is always the same.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gridnode.control.answer_schema import Delta, Finished, GenerateRequest
from gridnode.core.sampling import SamplingParams, probabilities, sample
from gridnode.node.choosing import TokenChooser
from gridnode.node.drafting import Drafting
from gridnode.node.generation import Generation
from gridnode.wire.tensors import TensorHeader

VOCAB = 4
NUM_NEW = 3
NUM_ANSWERS = 4000
# Chi-squared with 4^3 - 1 degrees of freedom: the 0.01 % point.
BOUND = 115.0
TARGET = np.random.default_rng(0).normal(size=(VOCAB, VOCAB)).astype(np.float32)
DRAFT = TARGET + np.random.default_rng(1).normal(size=(VOCAB, VOCAB)).astype(np.float32)

Choose = Callable[[Sequence[int], int | None, SamplingParams], int]
"""From the tokens so far and the draft that follows, if there is one."""


def choose_as_hops_do(token_ids: Sequence[int], draft: int | None, sampling: SamplingParams) -> int:
    return sample(TARGET[token_ids[-1]], sampling, position=len(token_ids))


def choose_what_is_likely_enough(
    token_ids: Sequence[int], draft: int | None, sampling: SamplingParams
) -> int:
    """Take drafts that the target finds likely: quicker, and not its distribution any more."""
    if draft is not None and probabilities(TARGET[token_ids[-1]], sampling)[draft] > 0.2:
        return draft
    return choose_as_hops_do(token_ids, draft, sampling)


class MarkovSession:
    """Stands for a `LastingSession` whose last hop chooses by `choose`."""

    num_reroutes = 0

    def __init__(self, sampling: SamplingParams, choose: Choose) -> None:
        self._sampling = sampling
        self._choose = choose
        self.session = SimpleNamespace(
            plan=SimpleNamespace(model=SimpleNamespace(name="markov"), route=None, max_tokens=10)
        )

    async def advance(self, token_ids: Sequence[int], output: str, *, drafts: Sequence[int]) -> Any:
        await asyncio.sleep(0)  # the way through the hops, in which the drafter makes ready
        behind = [[*token_ids, *drafts[:i]] for i in range(len(drafts) + 1)]
        if output in ("logits", "all_logits"):
            body = np.stack([TARGET[ids[-1]] for ids in behind]).astype("<f4")
        else:
            following = [*drafts, None]
            chosen = [self._choose(ids, following[i], self._sampling) for i, ids in enumerate(behind)]
            body = np.array(chosen, dtype="<i4")
        return SimpleNamespace(body=body.tobytes(), tensor=TensorHeader("int32", (1,)), trace=())


class MarkovDrafter:
    """Proposes what the draft model chooses with the random numbers of the answer."""

    def __init__(self, sampling: SamplingParams) -> None:
        self._sampling = sampling

    async def prepare(self, token_ids: Sequence[int]) -> None:
        pass

    async def propose(self, token_ids: Sequence[int], count: int) -> Sequence[int]:
        text = list(token_ids)
        for _ in range(count):
            text.append(sample(DRAFT[text[-1]], self._sampling, position=len(text)))
        return text[len(token_ids) :]

    async def aclose(self) -> None:
        pass


class Letters:
    """Stands for a `TextCodec`."""

    stop_ids: frozenset[int] = frozenset()

    def stream_decoder(self) -> Any:
        return SimpleNamespace(push=lambda token_id: "abcd"[token_id])


async def answer(
    seed: int, *, is_drafted: bool, choose: Choose, sample_at: Any
) -> tuple[tuple[int, ...], Finished]:
    sampling = SamplingParams(temperature=0.9, seed=seed)
    request = GenerateRequest(token_ids=(0,), sampling=sampling, sample_at=sample_at)
    codec: Any = Letters()
    session: Any = MarkovSession(sampling, choose)
    drafting = Drafting(MarkovDrafter(sampling) if is_drafted else None)
    drafting._length.next = lambda: 2  # type: ignore[method-assign] # whatever laps take
    generation = Generation(
        session=session,
        request=request,
        codec=codec,
        chooser=TokenChooser(request, codec, None),
        drafting=drafting,
        prompt_ids=(0,),
        max_new_tokens=NUM_NEW + 2,
        context_limit_tokens=10,
        describe=lambda route: (),
        started_at=0.0,
    )
    token_ids: list[int] = []
    async for event in generation.run():
        if isinstance(event, Delta):
            token_ids.extend(event.token_ids)
        elif isinstance(event, Finished):
            finished = event
    return tuple(token_ids), finished


def chi_squared(answers: Sequence[tuple[int, ...]]) -> float:
    """Return the distance of the first tokens of `answers` from what the chain makes of token 0."""
    counts = Counter(found[:NUM_NEW] for found in answers)
    steps = [probabilities(row, SamplingParams(temperature=0.9)) for row in TARGET]
    total = 0.0
    for tokens in itertools.product(range(VOCAB), repeat=NUM_NEW):
        expected = len(answers) * np.prod([steps[a][b] for a, b in itertools.pairwise((0, *tokens))])
        total += (counts[tokens] - expected) ** 2 / expected
    return float(total)


def answers_of(choose: Choose, *, is_drafted: bool, sample_at: str) -> list[tuple[tuple[int, ...], Finished]]:
    async def run() -> list[tuple[tuple[int, ...], Finished]]:
        return [
            await answer(seed, is_drafted=is_drafted, choose=choose, sample_at=sample_at)
            for seed in range(NUM_ANSWERS)
        ]

    return asyncio.run(run())


@pytest.mark.parametrize("sample_at", ["last_hop", "client"])
def test_sampled_answers_have_the_distribution_of_the_target(sample_at: str) -> None:
    drafted = answers_of(choose_as_hops_do, is_drafted=True, sample_at=sample_at)
    proposed = sum(finished.draft_tokens for _, finished in drafted)
    accepted = sum(finished.accepted_draft_tokens for _, finished in drafted)
    assert 0.2 < accepted / proposed < 0.9
    assert chi_squared([token_ids for token_ids, _ in drafted]) < BOUND


def test_each_answer_is_the_one_that_its_seed_gives_without_drafts() -> None:
    drafted = answers_of(choose_as_hops_do, is_drafted=True, sample_at="last_hop")
    plain = answers_of(choose_as_hops_do, is_drafted=False, sample_at="last_hop")
    assert [token_ids for token_ids, _ in drafted] == [token_ids for token_ids, _ in plain]
    assert not any(finished.draft_tokens for _, finished in plain)


def test_a_rule_that_favours_drafts_is_found_out() -> None:
    """The measure can fail: an easier rule accepts more, and leaves the distribution."""
    favoured = answers_of(choose_what_is_likely_enough, is_drafted=True, sample_at="last_hop")
    assert chi_squared([token_ids for token_ids, _ in favoured]) > 3 * BOUND
