"""The blocks of a distributed model are modules of their own, with sessions and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from background_swarm import BackgroundSwarm, background_swarm

from gridnode.api.auto_model import AutoDistributedModelForCausalLM
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.errors import BadInput, NoCapacity, PeerRefused

pytestmark = pytest.mark.swarm

PROMPT = torch.tensor([[1, 2, 3, 4, 5]])


@torch.inference_mode()
def test_blocks_have_sessions_of_their_own(model: Any, whole: Any) -> None:
    """A2, A5, A7: a long step, short ones and an empty one through a slice, which crosses two nodes."""
    hidden = torch.randn(1, 133, whole.config.hidden_size)
    with model.blocks[1:3].inference_session(max_length=133) as session:
        steps = [session.step(hidden[:, :129])]
        steps += [session.step(hidden[:, i : i + 1]) for i in range(129, 133)]
        assert session.step(hidden[:, :0]).shape == hidden[:, :0].shape
        assert session.position == 133
    assert torch.allclose(torch.cat(steps, dim=1), model.blocks[1:3](hidden), atol=1e-3)


@torch.inference_mode()
def test_a_path_of_our_own_through_the_blocks(model: Any, whole: Any) -> None:
    """Blocks one by one, with a look at what is between them."""
    hidden = model.get_input_embeddings()(PROMPT)
    states = whole(PROMPT, output_hidden_states=True).hidden_states
    for block_index, block in enumerate(model.blocks):
        assert torch.allclose(hidden, states[block_index], atol=1e-3)
        hidden = block(hidden)


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


def test_gradients_are_those_of_one_machine(model: Any, whole: Any) -> None:
    """A4, A14: through a slice that crosses two nodes, and through the whole model to its embeddings."""
    hidden = torch.randn(2, 6, whole.config.hidden_size)
    after = torch.randn(2, 6, whole.config.hidden_size)
    rotary = whole.model.rotary_emb(hidden, torch.arange(6).unsqueeze(0))
    mask = torch.full((6, 6), float("-inf")).triu(1).expand(2, 1, 6, 6)

    def locally(states: torch.Tensor) -> torch.Tensor:
        for layer in whole.model.layers[1:3]:
            states = layer(states, attention_mask=mask, position_embeddings=rotary)
        return states

    found = []
    for run in (model.blocks[1:3], locally):
        inputs = hidden.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(run(inputs), inputs, after)
        found.append(gradient)
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_nodes_without_gradients_say_so(tiny_llama: Path) -> None:
    with background_swarm(tiny_llama, [Span(0, 4)], quantization=QuantFormat.INT8) as swarm:
        model = AutoDistributedModelForCausalLM.from_pretrained(
            str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0)
        )
        inputs = torch.randn(1, 2, model.config.hidden_size, requires_grad=True)
        with pytest.raises(PeerRefused, match="--executor torch"):
            model.blocks(inputs).sum().backward()
        model.close()


@torch.inference_mode()
def test_a_path_through_nodes_of_our_choice(model: Any, whole: Any, swarm: BackgroundSwarm) -> None:
    hidden = model.get_input_embeddings()(PROMPT)
    expected = model.blocks(hidden)
    names = [node.config.public_name for node in swarm.swarm.nodes]
    first, second = model.blocks[:2].through(route=names[0]), model.blocks[2:].through(block=[names[1]])
    with first.inference_session() as session:
        middle = session.step(hidden)
        assert swarm.serving() == [0]
    with second.inference_session() as session:
        assert torch.allclose(session.step(middle), expected, atol=1e-4)
        assert swarm.serving() == [2]
    with pytest.raises(NoCapacity, match="that the request allows"):
        model.blocks.through(allow=[names[0]])(hidden)
    with pytest.raises(BadInput, match="routing cannot be used"):
        model.blocks.through(rout=["Ada"])
