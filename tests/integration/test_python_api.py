"""`AutoDistributedModelForCausalLM` against the same model of `transformers` on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from background_swarm import BackgroundSwarm, background_swarm
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from gridnode.api.auto_model import (
    AutoDistributedConfig,
    AutoDistributedModel,
    AutoDistributedModelForCausalLM,
    AutoDistributedModelForSequenceClassification,
)
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.errors import BadInput, ContextFull, NoCapacity, PeerRefused

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


def test_nodes_without_gradients_say_so(tiny_llama: Path) -> None:
    with background_swarm(tiny_llama, [Span(0, 4)], quantization=QuantFormat.INT8) as swarm:
        model = AutoDistributedModelForCausalLM.from_pretrained(
            str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0)
        )
        inputs = torch.randn(1, 2, model.config.hidden_size, requires_grad=True)
        with pytest.raises(PeerRefused, match="--executor torch"):
            model.blocks(inputs).sum().backward()
        model.close()


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
