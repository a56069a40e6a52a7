from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gridnode.api import whole_rows
from gridnode.api.whole_rows import MAX_BATCHES_UNDER_WAY, backward_rows, check_trainable, forward_rows
from gridnode.core.ids import ModelId
from gridnode.core.spans import Span
from gridnode.engine.arrays import to_parts
from gridnode.engine.executor import Array
from gridnode.engine.tuned_tensors import NOTHING_ADDED, Added
from gridnode.errors import BadInput
from gridnode.node.block_call import BlockCall
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import encode_frame
from gridnode.wire.messages import Backward
from gridnode.wire.tuning import MAX_TUNING_BYTES

SPAN = Span(0, 4)
ROWS, TOKENS = 4 * MAX_BATCHES_UNDER_WAY, 600  # two do not go together
HIDDEN = np.random.default_rng(0).normal(size=(ROWS, TOKENS, 2)).astype(np.float32)
ALL = [range(TOKENS)] * ROWS


def call(added: Added = NOTHING_ADDED) -> BlockCall:
    return BlockCall(model=ModelId("tiny", "0" * 64), num_blocks=4, part=SPAN, added=added)


class Blocks:
    """A swarm that doubles hidden states, and counts how many batches are in it at once."""

    def __init__(self) -> None:
        self.client = SimpleNamespace(call=self.run, node=SimpleNamespace(models=None))
        self.most_at_once = 0
        self._at_once = 0

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    def session(self, call: BlockCall, *, max_tokens: int) -> Blocks:
        return self

    async def aclose(self) -> None:
        pass

    async def step(self, hidden: Array) -> Array:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        for _ in range(3):  # time for others to come
            await asyncio.sleep(0)
        self._at_once -= 1
        return 2 * hidden

    async def backward(self, models: None, call: BlockCall, hidden: Array, gradient: Array) -> Any:
        return await self.step(gradient), {}


def test_a_few_batches_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Blocks()
    np.testing.assert_array_equal(forward_rows(cast(Any, forward), call(), HIDDEN, ALL), 2 * HIDDEN)
    assert forward.most_at_once == MAX_BATCHES_UNDER_WAY
    back = Blocks()
    monkeypatch.setattr(whole_rows, "backward", back.backward)
    found, _ = backward_rows(cast(Any, back), call(), HIDDEN, HIDDEN, ALL)
    np.testing.assert_array_equal(found, 2 * HIDDEN)
    assert back.most_at_once == MAX_BATCHES_UNDER_WAY


@pytest.mark.parametrize(("hidden_size", "fitting"), [(4096, 512), (2048, 1024)])
def test_a_row_that_no_message_takes_is_refused_with_the_tokens_that_fit(
    hidden_size: int, fitting: int
) -> None:
    check_trainable(call(), hidden_size, [range(3), range(fitting)])
    with pytest.raises(BadInput, match=rf"of {fitting + 1} tokens .* {fitting} tokens fit"):
        check_trainable(call(), hidden_size, [range(5, fitting + 6), range(3)])


def test_what_is_added_counts_up_to_what_one_hop_takes() -> None:
    matrix = np.zeros((8, 4096), np.float32)
    some = {f"{i}.q.lora_A": matrix for i in range(32)}
    with pytest.raises(BadInput, match=r"beside 4\.00 MiB .* 384 tokens fit"):
        check_trainable(call(Added(tensors=some)), 4096, [range(385)])
    many = {f"{i}.q.lora_A": matrix for i in range(256)}
    with pytest.raises(BadInput, match=r"beside 8\.00 MiB .* 256 tokens fit"):
        check_trainable(call(Added(tensors=many)), 4096, [range(257)])
    of_each_row = {"0.prompts": np.zeros((4, 8, 4096), np.float32)}
    with pytest.raises(BadInput, match=r"beside 128 KiB .* 508 tokens fit"):
        check_trainable(call(Added(tensors=of_each_row)), 4096, [range(509)] * 4)


def test_the_longest_row_fits_into_a_message_beside_all_that_a_hop_takes() -> None:
    matrices = {
        f"{i}.self_attn.{name}.lora_{side}": np.zeros((8, MAX_TUNING_BYTES // (512 * 32)), np.float32)
        for i in range(64)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj")
        for side in "AB"
    }
    added = Added(tensors=matrices)
    check_trainable(call(added), 4096, [range(256)])
    tuning, tensors = added.packed(Span(0, 64))
    assert len(tensors) == MAX_TUNING_BYTES
    each, body = to_parts(np.zeros((1, 256, 4096), np.float32))
    request = Backward(manifest="0" * 64, span=Span(0, 64), each=each, tuning=tuning)
    assert encode_frame(encode_message(request, body + body + tensors))
