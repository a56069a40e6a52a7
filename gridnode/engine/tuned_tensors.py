"""The tensors that a client adds to blocks: by name, and as the bytes of a message. Imports no torch.

A name begins with the number of its block: `7.prompts` is added to what goes into block 7 at its first
positions, `[positions, hidden_size]` or `[batch, positions, hidden_size]`; `7.self_attn.q_proj.lora_A`
(`[rank, in]`) and `...lora_B` (`[out, rank]`) together add `x A^T B^T` to what a linear layer returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gridnode.core.spans import Span
from gridnode.engine.arrays import to_array, to_parts
from gridnode.engine.executor import Array
from gridnode.errors import BadInput
from gridnode.units import MIB
from gridnode.wire.tuning import MAX_TUNED_TENSORS, MAX_TUNING_BYTES, TunedTensor, Tuning

PROMPTS = "prompts"
LORA_A, LORA_B = "lora_A", "lora_B"

TunedTensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Added:
    """What a client adds to blocks: its own tensors, an adapter that the nodes host, or both."""

    tensors: TunedTensors = field(default_factory=dict)
    adapter: str = ""

    def packed(self, span: Span) -> tuple[Tuning, bytes]:
        """Return what a message tells the hop with `span`, and the bytes for its body.

        Raises:
            BadInput: it is more than a message takes.
        """
        return pack_tuned(within(self.tensors, span), adapter=self.adapter)

    def for_rows(self, rows: Sequence[int]) -> Added:
        """Return what is added to some rows of a batch: prompts may differ between rows."""
        picked = {
            name: array[list(rows)] if array.ndim == 3 else array for name, array in self.tensors.items()
        }
        return replace(self, tensors=picked)


NOTHING_ADDED = Added()


def block_of_tuned(name: str) -> int:
    """Return the block that a tensor is added to.

    Raises:
        BadInput: the name tells none.
    """
    number, _, rest = name.partition(".")
    if not (number.isascii() and number.isdigit() and rest):
        raise BadInput(f"{name[:80]!r} names no block; names are like '7.prompts'")
    return int(number)


def within(tensors: TunedTensors, span: Span) -> dict[str, Array]:
    """Return the tensors of the blocks in `span`, in the order of their names."""
    return {name: tensors[name] for name in sorted(tensors) if span.start <= block_of_tuned(name) < span.end}


def pack_tuned(tensors: TunedTensors, *, adapter: str = "") -> tuple[Tuning, bytes]:
    """Return how a message tells of `tensors`, and the bytes for its body.

    Raises:
        BadInput: they are more than a message takes.
    """
    parts = [(name, *to_parts(np.ascontiguousarray(array, np.float32))) for name, array in tensors.items()]
    tuning = Tuning(tensors=tuple(TunedTensor(name, header) for name, header, _ in parts), adapter=adapter)
    check_tuning(tuning)
    return tuning, b"".join(body for _, _, body in parts)


def unpack_tuned(tuning: Tuning, body: bytes | bytearray | memoryview) -> dict[str, Array]:
    """Return the tensors of a message by their names.

    Raises:
        BadInput: the body is not what the message promises.
    """
    check_tuning(tuning)
    if len(body) != tuning.num_bytes:
        raise BadInput(f"tensors of {tuning.num_bytes} bytes promised, {len(body)} came")
    found: dict[str, Array] = {}
    offset = 0
    for each in tuning.tensors:
        end = offset + each.tensor.num_bytes
        found[each.name] = to_array(each.tensor, memoryview(body)[offset:end])
        offset = end
    return found


def check_tuning(tuning: Tuning) -> None:
    """Check what is added for one hop against the limits.

    Raises:
        BadInput: it is too much, or no float32.
    """
    if tuning.num_bytes > MAX_TUNING_BYTES or len(tuning.tensors) > MAX_TUNED_TENSORS:
        raise BadInput(
            f"{len(tuning.tensors)} tensors of {tuning.num_bytes / MIB:.1f} MiB are added to the blocks of "
            f"one hop, at most {MAX_TUNED_TENSORS} of {MAX_TUNING_BYTES / MIB:.0f} MiB are taken; "
            "adapt fewer layers, or with a lower rank"
        )
    for each in tuning.tensors:
        block_of_tuned(each.name)
        if each.tensor.dtype != "float32":
            raise BadInput(f"{each.name!r} is {each.tensor.dtype}, float32 expected")
