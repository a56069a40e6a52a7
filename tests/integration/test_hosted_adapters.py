"""LoRA adapters that nodes host and sessions choose, against `peft` on one machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from nodes import ask, running_swarm
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gridnode.api.auto_model import AutoDistributedModelForCausalLM
from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.errors import BadCheckpoint, BadInput, ModelUnknown
from gridnode.node.node import Node

pytestmark = [
    pytest.mark.swarm,
    # peft asks transformers by a name that transformers is about to drop.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`"),
]

PROMPT = (1, 2, 3, 4, 5)


@pytest.fixture
def adapted(tiny_llama: Path) -> Any:
    """The model with an adapter, here."""
    torch.manual_seed(3)
    whole = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    found = get_peft_model(whole, LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "up_proj"]))
    with torch.no_grad():
        for name, matrix in found.named_parameters():
            if "lora_" in name:
                matrix.normal_(std=0.3)
    return found


def tokens_of(model: Any, count: int) -> list[int]:
    ids = torch.tensor([PROMPT])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
    )
    tokens: list[int] = out[0, ids.shape[1] :].tolist()
    return tokens


def test_a_session_chooses_an_adapter(tiny_llama: Path, adapted: Any, tmp_path: Path) -> None:
    """A8: only the nodes that host it compute, and give the tokens of peft; others go on without it."""
    directory = tmp_path / "poet"
    adapted.save_pretrained(str(directory))
    expected = tokens_of(adapted, 12)
    with adapted.disable_adapter():
        plain = tokens_of(adapted, 12)
    assert expected != plain

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            for span in (Span(0, 2), Span(2, 4)):
                await swarm.start(span, adapters=(str(directory),))
            await swarm.wait_ready()
            [client, first, second] = swarm.nodes
            answer = await ask(client, PROMPT, max_tokens=12, adapter="poet")
            assert answer.token_ids == expected
            assert [hop.public_name for hop in answer.started.route] == [
                first.config.public_name,
                second.config.public_name,
            ]
            assert (await ask(client, PROMPT, max_tokens=12)).token_ids == plain
            with pytest.raises(ModelUnknown, match=r"nobody hosts an adapter 'painter'.*hosted: poet@"):
                await ask(client, PROMPT, adapter="painter")
            model = await asyncio.to_thread(
                AutoDistributedModelForCausalLM.from_pretrained,
                str(tiny_llama),
                join=str(client.address),
                listen=Address("127.0.0.1", 0),
                adapter="poet",
            )
            try:
                assert await asyncio.to_thread(tokens_of, model, 12) == expected
                await asyncio.to_thread(gradients_equal, model, adapted)
                model.blocks.use_adapter("")
                assert await asyncio.to_thread(tokens_of, model, 12) == plain
            finally:
                await asyncio.to_thread(model.close)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def gradients_equal(model: Any, adapted: Any) -> None:
    """Check that gradients of what goes in pass through the adapter."""
    found = []
    for one in (model, adapted):
        embedded = model.get_input_embeddings()(torch.tensor([PROMPT])).detach().requires_grad_()
        one(inputs_embeds=embedded, labels=torch.tensor([PROMPT]), use_cache=False).loss.backward()
        found.append(embedded.grad)
    assert torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize(
    ("files", "error", "text"),
    [
        ({"adapter_model.bin": "x"}, BadCheckpoint, "which could run anything"),
        ({}, BadCheckpoint, "no weights"),
    ],
)
def test_a_node_does_not_begin_with_an_adapter_that_it_cannot_host(
    tiny_llama: Path, tmp_path: Path, files: dict[str, str], error: type[BadInput], text: str
) -> None:
    """A25."""
    directory = tmp_path / "adapter"
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_text(content)

    async def scenario() -> None:
        node = Node(
            NodeConfig(
                model=str(tiny_llama),
                blocks=Span(0, 1),
                adapters=(str(directory),),
                listen=Address("127.0.0.1", 0),
                mdns=False,
                threads=1,
                state_dir=tmp_path / "state",
            )
        )
        with pytest.raises(error, match=text):
            async with asyncio.timeout(100):
                await node.run()

    asyncio.run(scenario())
