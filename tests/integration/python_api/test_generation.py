"""`AutoDistributedModelForCausalLM` generates what the same model of `transformers` does on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from background_swarm import BackgroundSwarm, background_swarm
from transformers import (
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from gridnode.api.auto_model import AutoDistributedModelForCausalLM
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.errors import BadInput, ContextFull

pytestmark = pytest.mark.swarm

PROMPT = torch.tensor([[1, 2, 3, 4, 5]])


def both(model: Any, whole: Any, ids: torch.Tensor, **arguments: Any) -> tuple[list[Any], list[Any]]:
    """Return what the swarm and one machine generate."""
    found = []
    for one in (model, whole):
        torch.manual_seed(7)
        mask = arguments.pop("attention_mask", None)
        mask = torch.ones_like(ids) if mask is None else mask
        out = one.generate(ids, attention_mask=mask, pad_token_id=0, eos_token_id=None, **arguments)
        arguments["attention_mask"] = mask
        found.append(out.tolist())
    return found[0], found[1]


@torch.inference_mode()
def test_logits_are_those_of_one_machine(model: Any, whole: Any) -> None:
    """A6: the whole model, at once."""
    assert torch.allclose(model(PROMPT).logits, whole(PROMPT).logits, atol=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_new_tokens": 24, "do_sample": False},
        {"max_new_tokens": 24, "do_sample": True, "temperature": 0.5, "top_k": 5, "top_p": 0.9},
        {"max_new_tokens": 12, "do_sample": True, "repetition_penalty": 1.2},
        {"max_new_tokens": 8, "do_sample": False, "num_beams": 5, "num_return_sequences": 3},
        {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 3},
    ],
    ids=["greedy", "sampling", "penalty", "beams", "several"],
)
def test_generation_is_that_of_one_machine(model: Any, whole: Any, arguments: dict[str, Any]) -> None:
    """A9, A11, A12, B6: beams are sorted while hops push to each other."""
    found, expected = both(model, whole, PROMPT, **arguments)
    assert found == expected


def test_rows_of_different_lengths_are_padded(model: Any, whole: Any) -> None:
    """A13: a batch with its attention mask."""
    ids = torch.tensor([[0, 0, 0, 9, 8], [1, 2, 3, 4, 5], [0, 7, 7, 7, 1]])
    mask = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    for beams in (1, 3):
        found, expected = both(
            model, whole, ids, attention_mask=mask, max_new_tokens=10, do_sample=False, num_beams=beams
        )
        assert found == expected


@torch.inference_mode()
def test_a_session_goes_on_over_calls_and_rolls_back(model: Any, whole: Any) -> None:
    """A10, A21."""
    expected = whole.generate(PROMPT, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
    with model.inference_session(max_length=32) as session:
        ids = PROMPT
        for count in (1, 4, 7):
            ids = model.generate(
                ids,
                past_key_values=session,
                max_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        assert ids.tolist() == expected.tolist()
        assert session.position == ids.shape[1] - 1
        session.position = 3
        logits = model(ids[:, 3:6], past_key_values=session).logits
        assert torch.allclose(logits, whole(ids[:, :6]).logits[:, 3:], atol=1e-3)
        with pytest.raises(BadInput, match="cannot go to position 99"):
            session.position = 99


def test_streamers_criteria_and_processors_are_heard(model: Any, whole: Any) -> None:
    class Stream:
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: torch.Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            self.tokens.append(-1)

    class AtLength(StoppingCriteria):
        def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.full((ids.shape[0],), ids.shape[1] >= 12)

    def only_even(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, 1::2] = -torch.inf
        return scores

    streams = [Stream(), Stream()]
    found = []
    for one, stream in zip((model, whole), streams, strict=True):
        out = one.generate(
            PROMPT,
            max_new_tokens=30,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            streamer=stream,
            stopping_criteria=StoppingCriteriaList([AtLength()]),
            logits_processor=LogitsProcessorList([only_even]),
        )
        found.append(out.tolist())
    assert found[0] == found[1]
    assert len(found[0][0]) == 12
    assert not any(token % 2 for token in found[0][0][5:])
    assert streams[0].tokens == streams[1].tokens == [*found[0][0], -1]


@torch.inference_mode()
def test_hidden_states_of_every_block_come_back(model: Any, whole: Any) -> None:
    ids = torch.tensor([[0, 0, 4, 5, 6], [1, 2, 3, 4, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    for use_cache in (False, True):
        found, expected = (
            one(ids, attention_mask=mask, output_hidden_states=True, use_cache=use_cache).hidden_states
            for one in (model, whole)
        )
        assert len(found) == len(expected) == 5
        for here, there in zip(found, expected, strict=True):
            assert torch.allclose(here[mask.bool()], there[mask.bool()], atol=1e-3)
    assert model(PROMPT).hidden_states is None
    generated = model.generate(
        PROMPT,
        max_new_tokens=3,
        do_sample=False,
        pad_token_id=0,
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    assert [[state.shape[1] for state in states] for states in generated.hidden_states] == [
        [5] * 5,
        [1] * 5,
        [1] * 5,
    ]


@torch.inference_mode()
def test_hidden_states_are_asked_for_from_the_first_call_on(model: Any) -> None:
    with model.inference_session() as session:
        model(PROMPT, past_key_values=session)
        with pytest.raises(BadInput, match="from the first call on"):
            model(PROMPT[:, :1], past_key_values=session, output_hidden_states=True)


@torch.inference_mode()
def test_a_session_forks_and_is_resumed(model: Any, whole: Any, swarm: BackgroundSwarm) -> None:
    """B14: two ends of one conversation, and a third after everything was freed."""
    ends = [torch.tensor([[7, 8]]), torch.tensor([[9, 10, 11]])]
    expected = [whole(torch.cat([PROMPT, end], dim=1)).logits[:, 5:] for end in ends]
    with model.inference_session(max_length=16) as session:
        model(PROMPT, past_key_values=session)
        fork = session.fork()
        assert fork.position == 5
        for one, end, logits in zip((session, fork), ends, expected, strict=True):
            assert torch.allclose(model(end, past_key_values=one).logits, logits, atol=1e-3)
    with model.inference_session(resume=fork):
        fork.position = 5
    swarm.wait_nothing_leased()
    with model.inference_session(resume=session) as again:
        again.position = 5
        assert torch.allclose(model(ends[1], past_key_values=again).logits, expected[1], atol=1e-3)
    with pytest.raises(BadInput, match="other blocks"), model.blocks[:2].inference_session(resume=session):
        pass


@torch.inference_mode()
def test_a_session_is_as_long_as_it_was_told(model: Any) -> None:
    """A3."""
    with model.inference_session(max_length=8) as session:
        model(PROMPT, past_key_values=session)
        model(PROMPT[:, :3], past_key_values=session)
        with pytest.raises(ContextFull, match="9 tokens do not fit into a context of 8"):
            model(PROMPT[:, :1], past_key_values=session)


def test_sessions_without_a_length_grow(model: Any, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridnode.node.hidden_session.FIRST_LEASE_TOKENS", 8)
    found, expected = both(model, whole, PROMPT, max_new_tokens=40, do_sample=False)
    assert found == expected


def test_a_hop_that_goes_is_replaced_in_the_middle_of_a_generation(tiny_llama: Path, whole: Any) -> None:
    """B1: the same tokens, whatever happens."""
    spans = [Span(0, 4), Span(0, 4)]
    expected = whole.generate(PROMPT, max_new_tokens=60, do_sample=False, pad_token_id=0, eos_token_id=None)
    with background_swarm(tiny_llama, spans) as swarm:
        model = AutoDistributedModelForCausalLM.from_pretrained(
            str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0)
        )

        class StopAHop(StoppingCriteria):
            def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
                if ids.shape[1] == 20:
                    swarm.stop(swarm.serving()[0])
                return torch.zeros(ids.shape[0], dtype=torch.bool)

        found = model.generate(
            PROMPT,
            max_new_tokens=60,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            stopping_criteria=StoppingCriteriaList([StopAHop()]),
        )
        assert found.tolist() == expected.tolist()
        model.close()
