"""The `AutoDistributed` classes open models with and without heads, and train what is theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from background_swarm import BackgroundSwarm
from transformers import (
    AutoModel,
)

from gridnode.api.auto_model import (
    AutoDistributedConfig,
    AutoDistributedModel,
    AutoDistributedModelForSequenceClassification,
)
from gridnode.core.addresses import Address
from gridnode.errors import BadInput

pytestmark = pytest.mark.swarm

PROMPT = torch.tensor([[1, 2, 3, 4, 5]])


@torch.inference_mode()
def test_the_model_without_its_head(swarm: BackgroundSwarm, tiny_llama: Path) -> None:
    base = AutoDistributedModel.from_pretrained(
        str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0)
    )
    here = AutoModel.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    assert torch.allclose(base(PROMPT).last_hidden_state, here(PROMPT).last_hidden_state, atol=1e-3)
    assert base.config.num_hidden_layers == 4
    base.close()


def test_a_head_of_classes_is_trained_here(swarm: BackgroundSwarm, tiny_llama: Path) -> None:
    model = AutoDistributedModelForSequenceClassification.from_pretrained(
        str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0), num_labels=3
    )
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["score.weight"]
    ids = torch.tensor([[5, 6, 7, 0], [9, 10, 11, 12]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    out = model(ids, attention_mask=mask, labels=torch.tensor([0, 2]), use_cache=False)
    assert out.logits.shape == (2, 3)
    out.loss.backward()
    assert model.score.weight.grad.abs().sum() > 0
    model.close()


def test_the_configuration_is_that_of_the_architecture(tiny_llama: Path) -> None:
    config = AutoDistributedConfig.from_pretrained(str(tiny_llama), num_labels=7)
    assert (config.model_type, config.num_hidden_layers, config.num_labels) == ("llama", 4, 7)


def test_a_prompt_is_tuned_through_the_swarm(model: Any, whole: Any) -> None:
    """A16, shallow: the loss of a padded batch behind trainable prompt vectors, and their gradient."""
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    labels = torch.tensor([[-100, -100, 5, 6, 7, 8], [-100, -100, 9, 10, -100, -100]])
    start = torch.randn(1, 2, whole.config.hidden_size) * 0.02
    found = []
    for one in (model, whole):
        prompt = start.clone().requires_grad_()
        embedded = torch.cat([prompt.expand(2, -1, -1), one.get_input_embeddings()(ids)], dim=1)
        loss = one(inputs_embeds=embedded, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        found.append((loss.item(), prompt.grad))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-4)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_gradients_with_a_cache_are_refused_clearly(model: Any, whole: Any) -> None:
    embedded = torch.randn(1, 2, whole.config.hidden_size, requires_grad=True)
    with pytest.raises(BadInput, match="use_cache=False"):
        model(inputs_embeds=embedded, use_cache=True)
