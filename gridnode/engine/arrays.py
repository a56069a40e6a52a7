"""Tensors of frames as numpy arrays, and back."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from gridnode.engine.executor import Array
from gridnode.wire.tensors import TensorHeader

NUMPY_DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int32": np.int32,
}


def to_array(tensor: TensorHeader, body: bytes | bytearray | memoryview) -> Array:
    """Return a copy of what `body` holds, one that may be written to."""
    return np.frombuffer(body, dtype=NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape).copy()


def to_parts(array: Array | None) -> tuple[TensorHeader, bytes]:
    """Return description and bytes of `array`; None is an empty one."""
    if array is None:
        return TensorHeader("int32", (0,)), b""
    name = next(name for name, dtype in NUMPY_DTYPES.items() if array.dtype == dtype)
    return TensorHeader(name, array.shape), array.tobytes()  # type: ignore[arg-type] # a key of the table
