"""A draft model proposes what the swarm then verifies: the same answers in fewer laps."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
import tiny_models
from nodes import ask, running_swarm
from waiting import until

from gridnode.core.draft_length import DraftLength
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.core.spans import Span

pytestmark = pytest.mark.swarm

PROMPT = (1, 2, 3, 70, 80, 90)
SAMPLED = SamplingParams(temperature=1.0, top_p=0.9, seed=11)
PENALIZED = SamplingParams(temperature=0.7, repetition_penalty=1.2, seed=3)


def test_a_draft_model_saves_laps_and_changes_no_token(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the draft is the model itself, in 8 bits: it nearly always agrees."""
    monkeypatch.setattr(DraftLength, "next", lambda _: 4)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            monkeypatch.setattr(swarm, "_quantization", QuantFormat.INT8)
            client = await swarm.start(None, serves=False, draft_model=str(tiny_llama))
            await until(lambda: client._draft_model.is_ready, timeout_s=120)
            await swarm.wait_ready()
            engine = client._draft_model._engine
            assert engine is not None
            for sampling in (GREEDY, SAMPLED, PENALIZED):
                plain = await ask(client, PROMPT, max_tokens=60, sampling=sampling, drafts="off")
                drafted = await ask(client, PROMPT, max_tokens=60, sampling=sampling)
                assert drafted.token_ids == plain.token_ids
                assert drafted.finished.laps < plain.finished.laps / 2
                assert not engine.num_leases
            # An answer outlives its draft model, which comes back.
            pid = engine.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            again = await ask(client, PROMPT, max_tokens=60)
            assert again.token_ids == (await ask(client, PROMPT, max_tokens=60, drafts="off")).token_ids
            await until(lambda: client._draft_model.is_ready and engine.pid != pid, timeout_s=120)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_a_draft_model_with_other_tokens_is_told_of_and_not_used(
    tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = tiny_models.make_model(tmp_path / "stranger", num_hidden_layers=1)
    text = (stranger / "tokenizer.json").read_text(encoding="utf-8")
    (stranger / "tokenizer.json").write_text(text.replace("<|user|>", "<|human|>"), encoding="utf-8")

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            client = await swarm.start(None, serves=False, draft_model=str(stranger))
            await until(lambda: client._draft_model.is_ready, timeout_s=120)
            await swarm.wait_ready()
            answer = await ask(client, PROMPT, max_tokens=20)
            assert len(answer.token_ids) == 20
            engine = client._draft_model._engine
            assert engine is not None
            assert not engine.num_leases

    asyncio.run(scenario())
    assert "has other tokens than the model that answers" in caplog.text
