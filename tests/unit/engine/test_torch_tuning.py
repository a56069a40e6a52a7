"""Prompts of every block and LoRA matrices, against `transformers` and `peft` on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gridnode.core.spans import Span
from gridnode.engine.executor import Array, Output, SpanStep
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.torch_span import TorchSpan
from gridnode.engine.tuned_tensors import pack_tuned, unpack_tuned, within
from gridnode.errors import BadInput

# peft asks transformers by a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")

SPANS = (Span(0, 1), Span(1, 4))
TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "bloom": ["query_key_value", "dense_h_to_4h"],
    "falcon": ["query_key_value", "dense_4h_to_h"],
    "mixtral": ["q_proj", "v_proj"],
}


@pytest.fixture(scope="module", params=tiny_models.TUNED_FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / request.param
    return tiny_models.make_model(directory, request.param, **tiny_models.TUNED_FAMILIES[request.param])


@pytest.fixture(scope="module")
def spans(model: Path) -> list[TorchSpan]:
    checkpoint = open_checkpoint(str(model))
    return [TorchSpan(checkpoint, span) for span in SPANS]


@pytest.fixture
def whole(model: Path) -> Any:
    found = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    return found.requires_grad_(False)


def blocks_of(whole: Any) -> Any:
    return next(child for child in whole.base_model.children() if isinstance(child, torch.nn.ModuleList))


def near(found: Array, expected: Array) -> bool:
    """Return whether the two differ by less than a ten-thousandth of the greatest value."""
    return bool(np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max()))


def first_input(whole: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return what goes into the first block."""
    found: list[torch.Tensor] = []
    handle = blocks_of(whole)[0].register_forward_pre_hook(
        lambda _, args, named: found.append(args[0] if args else named["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        whole(ids)
    handle.remove()
    return found[0]


def last_output(whole: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return what comes out of the last block."""
    found: list[torch.Tensor] = []
    handle = blocks_of(whole)[-1].register_forward_hook(
        lambda _, args, result: found.append(result[0] if isinstance(result, tuple) else result)
    )
    whole(ids, use_cache=False)
    handle.remove()
    return found[0]


def run(spans: list[TorchSpan], hidden: Array, tuned: dict[str, Array], cuts: list[int]) -> Array:
    """Run `hidden` through all spans with a cache, in pieces that end at `cuts`."""
    batch, num_tokens = hidden.shape[:2]
    for span in spans:
        cache = span.allocate(span.span, batch=batch, max_tokens=num_tokens, tuned=within(tuned, span.span))
        pieces = []
        for start, end in zip([0, *cuts], [*cuts, num_tokens], strict=True):
            step = SpanStep(cache=cache, position=start, hidden=hidden[:, start:end], output=Output.HIDDEN)
            [piece] = span.compute([step])
            assert piece is not None
            pieces.append(piece)
        hidden = np.concatenate(pieces, axis=1)
    return hidden


def gradients(
    spans: list[TorchSpan], hidden: Array, gradient: Array, tuned: dict[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """Return the gradients through all spans, as a client gets them hop by hop."""
    inputs = [hidden]
    for span in spans[:-1]:
        inputs.append(run([span], inputs[-1], tuned, []))
    found: dict[str, Array] = {}
    for span, states in zip(reversed(spans), reversed(inputs), strict=True):
        gradient, some = span.backward(span.span, states, gradient, within(tuned, span.span))
        found |= some
    return gradient, found


def test_lora_is_that_of_peft(model: Path, spans: list[TorchSpan], whole: Any) -> None:
    """A8, A16: outputs in pieces with a cache, and the gradients of every matrix."""
    torch.manual_seed(1)
    family = whole.config.model_type
    config = LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS[family], lora_dropout=0.0)
    ids = torch.randint(0, 250, (2, 9))
    hidden = first_input(whole, ids).numpy()
    peft_model = get_peft_model(whole, config)
    tuned: dict[str, Array] = {}
    matrices: dict[str, torch.nn.Parameter] = {}
    for name, parameter in peft_model.named_parameters():
        if "lora_" not in name:
            continue
        with torch.no_grad():
            parameter.normal_(std=0.1)
        block_index, path = name.split(".layers." if ".layers." in name else ".h.")[1].split(".", 1)
        path = path.replace(".default.weight", "")
        matrices[f"{block_index}.{path}"] = parameter
        scale = 2.0 if path.endswith("lora_B") else 1.0  # alpha / r
        tuned[f"{block_index}.{path}"] = parameter.detach().numpy() * scale
    output = last_output(whole, ids)
    assert near(run(spans, hidden, tuned, [4, 5, 6]), output.detach().numpy())

    after = torch.randn_like(output)
    output.backward(after)
    _, found = gradients(spans, hidden, after.numpy(), tuned)
    assert found.keys() == matrices.keys()
    for name, parameter in matrices.items():
        scale = 2.0 if name.endswith("lora_B") else 1.0
        assert parameter.grad is not None
        assert near(found[name] * scale, parameter.grad.numpy()), name


@pytest.mark.parametrize("is_per_row", [False, True], ids=["shared", "per row"])
def test_prompts_of_every_block(spans: list[TorchSpan], whole: Any, is_per_row: bool) -> None:
    """A16, deep: added to what goes into each block at its first positions."""
    torch.manual_seed(2)
    ids = torch.randint(0, 250, (2, 8))
    hidden = first_input(whole, ids).clone().requires_grad_()
    shape = (2, 3, 64) if is_per_row else (3, 64)
    prompts = [(torch.randn(shape) * 0.1).requires_grad_() for _ in range(4)]

    def adding(prompt: torch.Tensor, start: torch.Tensor | None) -> Any:
        def add(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            states = start if start is not None else (args[0] if args else named["hidden_states"])
            changed = torch.cat([states[:, :3] + prompt, states[:, 3:]], dim=1)
            return ((changed, *args[1:]), named) if args else (args, {**named, "hidden_states": changed})

        return add

    for i, (block, prompt) in enumerate(zip(blocks_of(whole), prompts, strict=True)):
        block.register_forward_pre_hook(adding(prompt, None if i else hidden), with_kwargs=True)
    output = last_output(whole, ids)
    tuned = {f"{i}.prompts": prompt.detach().numpy() for i, prompt in enumerate(prompts)}
    given = hidden.detach().numpy()
    for cuts in ([], [1], [2, 3, 5]):
        assert near(run(spans, given, tuned, cuts), output.detach().numpy())
    after = torch.randn_like(output)
    output.backward(after)
    of_hidden, found = gradients(spans, given, after.numpy(), tuned)
    assert hidden.grad is not None
    assert near(of_hidden, hidden.grad.numpy())
    for i, prompt in enumerate(prompts):
        assert prompt.grad is not None
        assert near(found[f"{i}.prompts"], prompt.grad.numpy())


def test_a_session_tunes_itself_and_no_other(spans: list[TorchSpan], whole: Any) -> None:
    hidden = first_input(whole, torch.arange(1, 6)[None]).numpy()
    plain = run(spans, hidden, {}, [])
    tuned = {"2.prompts": np.ones((2, 64), np.float32)}
    assert not np.allclose(run(spans, hidden, tuned, []), plain)
    assert np.array_equal(run(spans, hidden, {}, []), plain)


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("0.prompts", (2, 63), "positions, 64"),
        ("0.prompts", (5, 2, 64), "positions, 64"),
        ("7.prompts", (2, 64), "outside 0:1"),
        ("0.nowhere.lora_A", (2, 64), "without its lora_B"),
        ("0.nowhere.lora_B", (2, 64), "neither prompts nor half"),
        ("0.bias", (64,), "neither prompts nor half"),
        ("prompts", (2, 64), "names no block"),
    ],
)
def test_what_does_not_fit_is_refused(spans: list[TorchSpan], name: str, shape: Any, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        spans[0].allocate(Span(0, 1), batch=1, max_tokens=8, tuned={name: np.zeros(shape, np.float32)})


def test_matrices_that_do_not_fit_are_refused(spans: list[TorchSpan]) -> None:
    for path, text in (("nowhere", "adapts no linear layer"), ("mlp", "adapts no linear layer")):
        tuned = {f"0.{path}.lora_{x}": np.zeros((2, 64), np.float32) for x in "AB"}
        with pytest.raises(BadInput, match=text):
            spans[0].allocate(Span(0, 1), batch=1, max_tokens=8, tuned=tuned)


def test_tensors_survive_the_way_and_have_a_limit() -> None:
    tensors = {"3.prompts": np.ones((2, 4), np.float32), "10.prompts": np.zeros((1, 4), np.float32)}
    tuning, body = pack_tuned(tensors, adapter="poet")
    assert tuning.adapter == "poet"
    found = unpack_tuned(tuning, body)
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)
    assert within(tensors, Span(3, 5)).keys() == {"3.prompts"}
    with pytest.raises(BadInput, match="bytes promised"):
        unpack_tuned(tuning, body[:-1])
    with pytest.raises(BadInput, match=r"at most 512 of 8 MiB"):
        pack_tuned({"0.prompts": np.zeros((3, 2**20), np.float32)})
