"""Tensors on the wire: a description in the header, raw little-endian bytes in the body."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from gridnode.errors import ProtocolError

DType = Literal["float32", "bfloat16", "float16", "int32"]

ITEM_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "int32": 4}
MAX_DIMENSION = 2**24


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What the bytes of a body are."""

    dtype: DType
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=MAX_DIMENSION)], ...], Meta(max_length=4)]

    @property
    def num_bytes(self) -> int:
        """Bytes that the body must have."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def check_body(self, body: bytes | bytearray | memoryview) -> None:
        """Check that `body` has the bytes that this header promises.

        Raises:
            ProtocolError: it has not.
        """
        if len(body) != self.num_bytes:
            shape = "x".join(map(str, self.shape))
            raise ProtocolError(
                f"{self.dtype} tensor {shape} has {self.num_bytes} bytes, the frame brought {len(body)}"
            )
