"""Prompts and adapters that their owner trains through the swarm, against `transformers` and `peft`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from background_swarm import BackgroundSwarm, background_swarm
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from gridnode.api.auto_model import AutoDistributedModelForCausalLM
from gridnode.api.lora import LoraTuning
from gridnode.api.prompt_tuning import PromptTuning
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.errors import BadCheckpoint, BadInput, PeerRefused

pytestmark = [
    pytest.mark.swarm,
    # peft asks transformers by a name that transformers is about to drop.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`"),
    pytest.mark.filterwarnings("ignore:Could not find a config file in"),
]

IDS = torch.tensor([[5, 6, 7, 8, 9], [0, 0, 9, 10, 11], [12, 13, 14, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
# Nothing predicts the first token of a text.
LABELS = IDS.masked_fill((MASK == 0) | (MASK.cumsum(1) == 1), -100)


@pytest.fixture(scope="module", params=tiny_models.TUNED_FAMILIES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / request.param
    return tiny_models.make_model(directory, request.param, **tiny_models.TUNED_FAMILIES[request.param])


@pytest.fixture(scope="module")
def swarm(directory: Path) -> Iterator[BackgroundSwarm]:
    with background_swarm(directory, [Span(0, 2), Span(2, 4)]) as running:
        yield running


@pytest.fixture(scope="module")
def model(swarm: BackgroundSwarm, directory: Path) -> Iterator[Any]:
    found = AutoDistributedModelForCausalLM.from_pretrained(
        str(directory), join=swarm.address, listen=Address("127.0.0.1", 0)
    )
    yield found
    found.close()


@pytest.fixture
def whole(directory: Path) -> Any:
    found = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return found.requires_grad_(False)


@pytest.fixture(autouse=True)
def nothing_is_leased_afterwards(swarm: BackgroundSwarm) -> Iterator[None]:
    yield
    swarm.wait_nothing_leased()


def blocks_of(whole: Any) -> Any:
    return next(child for child in whole.base_model.children() if isinstance(child, torch.nn.ModuleList))


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether the two differ by less than a ten-thousandth of the greatest value."""
    return bool((found - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max())))


def loss_of(model: Any) -> torch.Tensor:
    loss: torch.Tensor = model(IDS, attention_mask=MASK, labels=LABELS, use_cache=False).loss
    loss.backward()
    return loss.detach()


def test_lora_is_trained_as_by_peft(model: Any, whole: Any, tmp_path: Path) -> None:
    """A8, A16: the loss, the gradient of every matrix, what is generated, and the files."""
    torch.manual_seed(0)
    tuning = LoraTuning(model, rank=3, alpha=6)
    try:
        with torch.no_grad():
            for matrix in tuning.parameters():
                matrix.normal_(std=0.1)
        tuning.save(tmp_path / "mine")
        theirs = PeftModel.from_pretrained(copy.deepcopy(whole), str(tmp_path / "mine"), is_trainable=True)
        assert float(loss_of(model)) == pytest.approx(float(loss_of(theirs)), rel=1e-4)
        found = {key.replace("/", "."): matrix.grad for key, matrix in tuning.matrices.items()}
        compared = 0
        for name, matrix in theirs.named_parameters():
            for key, gradient in found.items():
                if f".{key}.default" in name:
                    assert near(gradient, matrix.grad), name
                    compared += 1
        assert compared == len(found) > 0
        arguments = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        ids = IDS[:2]
        expected = theirs.generate(input_ids=ids, attention_mask=MASK[:2], **arguments)
        assert model.generate(ids, attention_mask=MASK[:2], **arguments).tolist() == expected.tolist()
    finally:
        tuning.remove()


def test_an_adapter_of_peft_is_gone_on_with(model: Any, whole: Any, tmp_path: Path) -> None:
    names = list(model.blocks.remote.linear_layers)
    target = names[0].rpartition(".")[2]
    theirs = get_peft_model(copy.deepcopy(whole), LoraConfig(r=2, lora_alpha=3, target_modules=[target]))
    with torch.no_grad():
        for name, matrix in theirs.named_parameters():
            if "lora_" in name:
                matrix.normal_(std=0.1)
    theirs.save_pretrained(str(tmp_path))
    tuning = LoraTuning.load(model, tmp_path)
    try:
        with torch.inference_mode():
            expected = theirs(IDS[:1], use_cache=False).logits
            assert near(model(IDS[:1], use_cache=False).logits, expected)
    finally:
        tuning.remove()
    with pytest.raises(BadInput, match="no layer of the blocks is called nothing"):
        LoraTuning(model, targets=["nothing"])


def test_pickled_adapters_are_refused(model: Any, tmp_path: Path) -> None:
    """A25."""
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')
    (tmp_path / "adapter_model.bin").write_bytes(b"anything")
    with pytest.raises(BadCheckpoint, match=r"adapter_model\.bin, which could run anything"):
        LoraTuning.load(model, tmp_path)
    assert not model.blocks.tunings


@pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])
def test_prompts_are_trained_as_on_one_machine(model: Any, whole: Any, deep: bool, tmp_path: Path) -> None:
    """A16: the loss of a padded batch, and the gradients of the prompts before the text and every block."""
    torch.manual_seed(0)
    tuning = PromptTuning(model, num_tokens=2, deep=deep)
    try:
        if tuning.deep is not None:
            torch.nn.init.normal_(tuning.deep, std=0.1)
        loss = loss_of(model)
        expected_loss, prompts, deep_prompts = locally(whole, tuning)
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-4)
        assert tuning.prompts.grad is not None
        assert near(tuning.prompts.grad, prompts.grad)
        if tuning.deep is not None:
            assert tuning.deep.grad is not None
            assert near(tuning.deep.grad, deep_prompts.grad)
        tuning.save(tmp_path)
    finally:
        tuning.remove()
    again = PromptTuning.load(model, tmp_path)
    assert torch.equal(again.prompts, tuning.prompts)
    again.remove()


def locally(whole: Any, tuning: PromptTuning) -> tuple[torch.Tensor, Any, Any]:
    """Return the same loss on one machine, row by row without padding, behind its gradients."""
    prompts = tuning.prompts.detach().clone().requires_grad_()
    deep = None if tuning.deep is None else tuning.deep.detach().clone().requires_grad_()

    def adding(prompt: torch.Tensor) -> Any:
        def add(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            states = args[0] if args else named["hidden_states"]
            changed = torch.cat([states[:, : len(prompt)] + prompt, states[:, len(prompt) :]], dim=1)
            return ((changed, *args[1:]), named) if args else (args, {**named, "hidden_states": changed})

        return add

    for block, prompt in zip(blocks_of(whole), [] if deep is None else deep, strict=deep is not None):
        block.register_forward_pre_hook(adding(prompt), with_kwargs=True)
    losses = []
    for ids, mask in zip(IDS, MASK, strict=True):
        tokens = ids[mask.bool()][None]
        embedded = torch.cat([prompts[None], whole.get_input_embeddings()(tokens)], dim=1)
        logits = whole(inputs_embeds=embedded, use_cache=False).logits[:, len(prompts) :]
        losses.append(torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none"))
    loss = torch.cat(losses).mean()
    loss.backward()
    return loss.detach(), prompts, deep


def test_generation_begins_with_the_prompts(model: Any, whole: Any) -> None:
    torch.manual_seed(1)
    tuning = PromptTuning(model, num_tokens=3)
    arguments = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    try:
        found = model.generate(IDS[:2], attention_mask=MASK[:2], **arguments)
        for row, mask, answer in zip(IDS, MASK, found, strict=False):
            embedded = torch.cat([tuning.prompts, whole.get_input_embeddings()(row[mask.bool()])])[None]
            expected = whole.generate(
                inputs_embeds=embedded, attention_mask=torch.ones(embedded.shape[:2]), **arguments
            )
            assert answer[5:].tolist() == expected[0].tolist()
    finally:
        tuning.remove()


def test_more_than_nodes_take_is_refused_with_the_numbers(model: Any) -> None:
    tuning = LoraTuning(model, rank=20_000)
    try:
        with pytest.raises(BadInput, match=r"at most 512 of 8 MiB are taken; adapt fewer layers"):
            model(IDS, use_cache=False)
    finally:
        tuning.remove()


def test_what_fits_no_block_is_refused_by_the_hop(model: Any) -> None:
    class Wrong:
        def tensors(self) -> dict[str, torch.Tensor]:
            return {"1.prompts": torch.zeros(2, 63)}

    model.blocks.tunings.append(Wrong())
    try:
        with pytest.raises(PeerRefused, match="positions, 64"):
            model(IDS, use_cache=False)
    finally:
        model.blocks.tunings.clear()
