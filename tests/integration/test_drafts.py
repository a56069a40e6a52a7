"""Drafts change how fast an answer comes, and not one token of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from disturbed import NUM_TOKENS, PROMPT, SAMPLED, answer_while
from nodes import Answer, ask, running_swarm

from gridnode.control.answer_schema import Started
from gridnode.core.draft_length import MAX_DRAFT_TOKENS, DraftLength
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.core.spans import Span
from gridnode.node import lasting_session, opening
from gridnode.node.drafting import Drafter

pytestmark = pytest.mark.swarm

SPANS = [Span(0, 2), Span(2, 4)]
PENALIZED = SamplingParams(temperature=0.9, top_p=0.95, repetition_penalty=1.3, seed=4)
SCHEMA = '{"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 20}'


class KnowingDrafter:
    """Proposes what an answer said without drafts, and every few tokens something else."""

    def __init__(self, known: Sequence[int], wrong_every: int) -> None:
        self._known = known
        self._wrong_every = wrong_every

    async def prepare(self, token_ids: Sequence[int]) -> None:
        pass

    async def propose(self, token_ids: Sequence[int], count: int) -> Sequence[int]:
        end = len(token_ids) - len(PROMPT)
        return [
            (token_id + 1) % 200 if (end + i) % self._wrong_every == 0 else token_id
            for i, token_id in enumerate(self._known[end : end + count])
        ]

    async def aclose(self) -> None:
        pass


class EveryLength:
    """Stands for `DraftLength`: each number of drafts has its turn, whatever laps take."""

    def __init__(self) -> None:
        self._num_laps = 0

    def next(self) -> int:
        self._num_laps += 1
        return self._num_laps % (MAX_DRAFT_TOKENS + 1)

    def note(self, **_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_better_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let answers move when they have to, and not because this computer is busy with others."""
    monkeypatch.setattr(lasting_session, "COMPARE_INTERVAL_S", 3600.0)


def draft_from(monkeypatch: pytest.MonkeyPatch, known: Sequence[int]) -> None:
    def make() -> Drafter:
        return KnowingDrafter(known, wrong_every=5)

    monkeypatch.setattr(opening, "NgramDrafter", make)
    monkeypatch.setattr("gridnode.node.drafting.DraftLength", EveryLength)


def assert_drafts_were_used(answer: Answer) -> None:
    finished = answer.finished
    assert 0 < finished.accepted_draft_tokens < finished.draft_tokens
    assert finished.laps + finished.accepted_draft_tokens == finished.completion_tokens - 1


@pytest.mark.parametrize("quantization", [QuantFormat.NONE, QuantFormat.INT8, QuantFormat.INT4])
def test_answers_are_the_same_with_drafts_and_without(
    tiny_llama: Path, quantization: QuantFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A22: wherever tokens are chosen, whatever is asked of them. Unquantized is the reference executor."""
    shapes: list[tuple[SamplingParams, dict[str, object]]] = [
        (GREEDY, {}),
        (SAMPLED, {}),
        (PENALIZED, {}),
        (PENALIZED, {"sample_at": "client"}),
        (SAMPLED, {"top_logprobs": 3}),
        (SAMPLED, {"presence_penalty": 1.0, "frequency_penalty": 0.5, "logit_bias": {7: 3.0}}),
        (SAMPLED, {"json_schema": SCHEMA}),
        (GREEDY, {"stop": ("\n", "a", "e")}),
    ]

    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS, quantization=quantization) as swarm:
            node = swarm.nodes[0]
            for sampling, fields in shapes:
                plain = await ask(node, PROMPT, max_tokens=60, sampling=sampling, drafts="off", **fields)
                assert not plain.finished.draft_tokens
                assert plain.finished.laps == plain.finished.completion_tokens - 1
                with monkeypatch.context() as patched:
                    draft_from(patched, plain.token_ids)
                    drafted = await ask(node, PROMPT, max_tokens=60, sampling=sampling, **fields)
                assert drafted.token_ids == plain.token_ids, (sampling, fields)
                assert drafted.text == plain.text
                assert drafted.finished.reason == plain.finished.reason
                if len(plain.token_ids) > 10:
                    assert_drafts_were_used(drafted)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_hop_that_dies_between_drafts_is_replaced_with_the_same_tokens(
    tiny_llama: Path, sampling: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [*SPANS, SPANS[1]], quantization=QuantFormat.INT8) as swarm:
            node = swarm.nodes[0]
            plain = await ask(node, PROMPT, max_tokens=NUM_TOKENS, sampling=sampling, drafts="off")
            draft_from(monkeypatch, plain.token_ids)

            def kill_last_hop(started: Started) -> None:
                victim = next(n for n in swarm.nodes if n.status().peer_id == started.route[-1].peer_id)
                pid = victim.status().engine.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)

            token_ids, reroutes, finished = await answer_while(node, sampling, 25, kill_last_hop)
            assert token_ids == plain.token_ids
            assert reroutes == 1
            assert 0 < finished.accepted_draft_tokens < finished.draft_tokens
            await swarm.wait_ready()
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_an_answer_that_repeats_itself_takes_fewer_laps_than_tokens(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual drafter proposes what followed the same tokens before. The bias makes them the same."""
    monkeypatch.setattr(DraftLength, "next", lambda _: 4)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)], quantization=QuantFormat.INT8) as swarm:
            node = swarm.nodes[0]
            answer = await ask(node, PROMPT, max_tokens=64, logit_bias={7: 100.0})
            assert answer.token_ids == [7] * 64
            # Three tokens by themselves; five laps of five in each 25; what is left.
            assert answer.finished.laps <= 3 + 60 / 5 + 1

    asyncio.run(scenario())
