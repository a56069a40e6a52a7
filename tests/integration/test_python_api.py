"""`AutoDistributedModelForCausalLM` against the same model of `transformers` on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from background_swarm import BackgroundSwarm, background_swarm
from transformers import AutoModelForCausalLM

from gridnode.api.auto_model import AutoDistributedModelForCausalLM
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.errors import BadInput, ContextFull

pytestmark = pytest.mark.swarm

PROMPT = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(scope="module")
def swarm(tiny_llama: Path) -> Iterator[BackgroundSwarm]:
    with background_swarm(tiny_llama, [Span(0, 2), Span(2, 4), Span(0, 4)]) as running:
        yield running


@pytest.fixture(scope="module")
def model(swarm: BackgroundSwarm, tiny_llama: Path) -> Iterator[Any]:
    found = AutoDistributedModelForCausalLM.from_pretrained(
        str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0)
    )
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> Any:
    """The same model, here."""
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


@pytest.fixture(autouse=True)
def nothing_is_leased_afterwards(swarm: BackgroundSwarm) -> Iterator[None]:
    yield
    swarm.wait_nothing_leased()


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
    """A9, A11, A12."""
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
    """A7, A10, A21."""
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


@torch.inference_mode()
def test_blocks_are_a_module(model: Any, whole: Any) -> None:
    """A1, A4, A14: one block, a slice, and halves that follow each other."""
    hidden = torch.randn(2, 7, whole.config.hidden_size)
    positions = torch.arange(7).unsqueeze(0)
    rotary = whole.model.rotary_emb(hidden, positions)

    def locally(first: int, last: int, states: torch.Tensor) -> torch.Tensor:
        mask = torch.full((7, 7), float("-inf")).triu(1).expand(2, 1, 7, 7)
        for layer in whole.model.layers[first:last]:
            states = layer(states, attention_mask=mask, position_embeddings=rotary)
        return states

    blocks = model.blocks
    assert len(blocks) == 4
    assert [len(blocks[:2]), len(blocks[2:]), len(blocks[1])] == [2, 2, 1]
    assert "blocks 1:3" in repr(blocks[1:3])
    assert torch.allclose(blocks[1](hidden), locally(1, 2, hidden), atol=1e-4)
    assert torch.allclose(blocks[1:3](hidden), locally(1, 3, hidden), atol=1e-4)
    assert torch.allclose(blocks[2:](blocks[:2](hidden)), blocks(hidden), atol=1e-4)
    assert len(list(blocks)) == 4
    with pytest.raises(IndexError):
        blocks[4]


def test_gradients_are_refused_clearly(model: Any, whole: Any) -> None:
    hidden = torch.randn(1, 2, whole.config.hidden_size, requires_grad=True)
    with pytest.raises(BadInput, match="gradients"):
        model.blocks(hidden)
