"""What a client adds to the frozen blocks of a hop: in the header of a message, its values in the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from gridnode.units import MIB
from gridnode.wire.tensors import TensorHeader

# Half a frame: the other half of a request for gradients holds hidden states.
MAX_TUNING_BYTES = 8 * MIB
# Seven matrices of 32 blocks, two each. Their names must fit into the header of a frame.
MAX_TUNED_TENSORS = 512
MAX_ADAPTER_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class TunedTensor:
    """One tensor that is added to a block: `7.prompts`, `7.self_attn.q_proj.lora_A`, ..."""

    name: Annotated[str, Meta(max_length=200)]
    tensor: TensorHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What is added to the blocks for one session, or one gradient."""

    tensors: Annotated[tuple[TunedTensor, ...], Meta(max_length=MAX_TUNED_TENSORS)] = ()
    """In the order of their bytes in the body; all float32."""

    adapter: Annotated[str, Meta(max_length=MAX_ADAPTER_NAME_CHARACTERS)] = ""
    """Name of an adapter that the hop hosts."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(each.tensor.num_bytes for each in self.tensors)


NOT_TUNED = Tuning()
"""The blocks as they are."""
