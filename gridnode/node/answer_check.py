"""Whether a result is what its step asked for: who takes it relies on its shape, its ids and its trace."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gridnode.errors import ProtocolError
from gridnode.wire.messages import Output, Step, StepResult
from gridnode.wire.tensors import TensorHeader

_INT32 = frozenset({"int32"})
_FLOAT32 = frozenset({"float32"})
# Hidden states keep the type that the last hop computes with.
_ANY_FLOAT = frozenset({"float32", "bfloat16", "float16"})

_DTYPES: dict[Output, frozenset[str]] = {
    "none": _INT32,
    "hidden": _ANY_FLOAT,
    "normed": _ANY_FLOAT,
    "token": _INT32,
    "tokens": _INT32,
    "logits": _FLOAT32,
    "all_logits": _FLOAT32,
    "likelihoods": _FLOAT32,
}


class AnswerCheck:
    """Checks the results of one session.

    How wide hidden states and logits are, the client may not know: the first ones tell, and those behind them
    must be as wide.
    """

    def __init__(self, num_hops: int) -> None:
        self._num_hops = num_hops
        self._widths: dict[Literal["hidden", "logits"], int] = {}

    def check(self, step: Step, result: StepResult, body: bytes | bytearray | memoryview) -> None:
        """Check the result of `step`, whose `body` has the bytes that its header promises.

        Raises:
            ProtocolError: it is something else, or tells of more or fewer hops than the session has.
        """
        if len(result.trace) != self._num_hops:
            raise ProtocolError(
                f"a result tells of {len(result.trace)} hops, the session has {self._num_hops}"
            )
        if len(step.tensor.shape) == 3:
            self._widths["hidden"] = step.tensor.shape[2]
        found, shape = result.tensor, self._shape(step, result.tensor)
        if found.dtype not in _DTYPES[step.output] or found.shape != shape:
            raise ProtocolError(
                f"{found.dtype} {_show(found.shape)} came where {step.output} of shape {_show(shape)} was "
                "expected"
            )
        if step.output in ("token", "tokens") and (np.frombuffer(body, dtype="<i4") < 0).any():
            raise ProtocolError("a result has a negative token id")
        if len(shape) == 3:
            self._widths["hidden" if step.output in ("hidden", "normed") else "logits"] = shape[2]

    def _shape(self, step: Step, found: TensorHeader) -> tuple[int, ...]:
        """Return the shape that the result of `step` must have; `found` may tell the width."""
        batch, num_tokens = step.tensor.shape[:2]
        match step.output:
            case "none":
                return (0,)
            case "token":
                return (batch,)
            case "tokens" | "likelihoods":
                return batch, num_tokens
            case "logits":
                return batch, 1, self._width("logits", found)
            case "all_logits":
                return batch, num_tokens, self._width("logits", found)
            case "hidden" | "normed":
                return batch, num_tokens, self._width("hidden", found)

    def _width(self, kind: Literal["hidden", "logits"], found: TensorHeader) -> int:
        return self._widths.get(kind) or max((1, *found.shape[-1:]))


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"
