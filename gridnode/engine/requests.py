"""What a node and its engine worker say to each other, in frames over a socket pair.

Imports neither torch nor onnxruntime. The node sends requests with a number; the worker answers each
with that number, except for `Progress`, which belongs to `Load`. Bodies are raw tensor bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from gridnode.core.models import DeviceName, DTypeName, ExecutorName, KvFormat, QuantFormat
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.errors import CacheFull, ContextFull, ErrorCode, GridError
from gridnode.wire.codec import MessageCodec, TypedMessage
from gridnode.wire.frames import Frame
from gridnode.wire.messages import Output
from gridnode.wire.tensors import TensorHeader
from gridnode.wire.tuning import NOT_TUNED, Tuning

Number = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What a worker has to load, and how."""

    location: str
    """Directory of safetensors, GGUF file or Hub id."""

    span: Span
    quantization: QuantFormat = QuantFormat.NONE
    dtype: DTypeName = "auto"
    """Of what is not quantized, of hidden states and of the KV cache."""

    device: DeviceName = "cpu"
    executor: ExecutorName = "auto"
    kv: KvFormat = "auto"
    """`auto` keeps keys and values as they are computed."""

    cache_tokens: int = 8192
    """Tokens of KV cache over the whole span, shared by all sessions."""

    num_threads: int | None = None
    """None is one per core."""

    adapters: tuple[str, ...] = ()
    """Directories or Hub ids of LoRA adapters that sessions may choose."""

    block_cache_bytes: int | None = None
    """Disk that quantized blocks may take after loading, of all models; None does not look."""

    prefill_chunk_tokens: int = 256
    """Longer steps are computed in pieces of this, so that others get their turn."""


class RequestType(IntEnum):
    """Frame types between node and worker."""

    LOAD = 0x40
    OPEN_LEASE = 0x41
    CLOSE_LEASE = 0x42
    STEP = 0x43
    CANCEL = 0x44
    BACKWARD = 0x45
    PROGRESS = 0x50
    LOADED = 0x51
    LEASE_OPENED = 0x52
    LEASE_CLOSED = 0x53
    STEP_ANSWER = 0x54
    FAILED = 0x55


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(TypedMessage):
    """First request: load the span. Answered by `Loaded`, after any number of `Progress`."""

    type: ClassVar[int] = RequestType.LOAD
    number: Number
    config: EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease(TypedMessage):
    """Reserve KV cache for a session on some of the loaded blocks."""

    type: ClassVar[int] = RequestType.OPEN_LEASE
    number: Number
    lease: Number
    """Chosen by the node, never used twice."""

    span: Span
    batch: int
    max_tokens: int
    wait_s: Annotated[float, Meta(ge=0.0)] = 0.0
    """How long to wait for others to end if it does not fit now."""

    tuning: Tuning = NOT_TUNED
    """What to add to the blocks; its tensors are the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLease(TypedMessage):
    """Free a lease at once; its steps end with an error between two chunks. Unknown leases are no error."""

    type: ClassVar[int] = RequestType.CLOSE_LEASE
    number: Number
    lease: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest(TypedMessage):
    """Run new tokens of a session through the blocks of its lease."""

    type: ClassVar[int] = RequestType.STEP
    number: Number
    lease: Number
    parents: tuple[Number, ...] = ()
    """Row i goes on from what row `parents[i]` held before (beam search); none is each from its own."""

    position: Number
    """Tokens before these that count; what lies behind in the cache is overwritten."""

    tensor: TensorHeader
    """Token ids `[batch, tokens]` int32, or hidden states `[batch, tokens, hidden_size]`."""

    output: Output
    """`token` is chosen in the worker, one for each row: `[batch]` int32; `tokens` behind each token of
    a row: `[batch, tokens]`."""

    sampling: SamplingParams | None = None
    history: tuple[Number, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(TypedMessage):
    """Nobody waits for a step, or for a gradient, any more. Not answered, and neither is what waits still."""

    type: ClassVar[int] = RequestType.CANCEL
    number: Number
    """That of the `StepRequest` or `BackwardRequest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardRequest(TypedMessage):
    """Compute the gradient of some blocks, when no step waits. Answered by `StepAnswer`.

    The body holds what went into the blocks, and the gradient of what came out.
    """

    type: ClassVar[int] = RequestType.BACKWARD
    number: Number
    span: Span
    each: TensorHeader
    """Of each of the two: `[batch, tokens, hidden_size]`."""

    tuning: Tuning = NOT_TUNED
    """What to add to the blocks; its tensors are in the body behind the two, and their gradients in the
    answer behind the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(TypedMessage):
    """How far loading is."""

    type: ClassVar[int] = RequestType.PROGRESS
    number: Number
    loaded_blocks: int
    total_blocks: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(TypedMessage):
    """The span is ready to serve."""

    type: ClassVar[int] = RequestType.LOADED
    number: Number
    executor: str
    """`torch` or `onnx`."""

    dtype: str
    """Of the hidden states that this span returns."""

    has_embeddings: bool
    has_head: bool
    total_cache_tokens: int
    max_session_tokens: int
    """Longest session: what the model was trained for, or less if the cache is smaller."""

    kv_bytes_per_token: int
    """Bytes of KV cache of one token of one row in one block."""

    text_dir: str
    """Directory of the tokenizer's files (see `gridnode.engine.text`); empty if the model has none."""

    adapters: tuple[str, ...] = ()
    """What the adapters are announced as."""

    resident_bytes: int
    """Resident memory of the worker after loading."""

    load_s: float
    decode_block_s: float
    """Measured seconds of one decode step through one block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOpened(TypedMessage):
    """The lease is granted."""

    type: ClassVar[int] = RequestType.LEASE_OPENED
    number: Number
    free_cache_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseClosed(TypedMessage):
    """The lease is free."""

    type: ClassVar[int] = RequestType.LEASE_CLOSED
    number: Number
    free_cache_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnswer(TypedMessage):
    """The result of a step; its bytes are the body of the frame."""

    type: ClassVar[int] = RequestType.STEP_ANSWER
    number: Number
    tensor: TensorHeader
    behind_bytes: Number = 0
    """Of the gradients with respect to what was added to the blocks, behind the tensor."""

    compute_s: float
    """Seconds in the executor and in sampling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(TypedMessage):
    """The request could not be carried out; the worker goes on."""

    type: ClassVar[int] = RequestType.FAILED
    number: Number
    code: ErrorCode
    text: str
    wanted_tokens: int = 0
    """With `CACHE_FULL` and `CONTEXT_FULL`."""

    limit_tokens: int = 0
    """With `CACHE_FULL` what is free, with `CONTEXT_FULL` what the session holds."""


Request = Load | OpenLease | CloseLease | StepRequest | Cancel | BackwardRequest
Answer = Progress | Loaded | LeaseOpened | LeaseClosed | StepAnswer | Failed
EngineMessage = Request | Answer

_CODEC: MessageCodec[EngineMessage] = MessageCodec(
    (
        Load,
        OpenLease,
        CloseLease,
        StepRequest,
        Cancel,
        BackwardRequest,
        Progress,
        Loaded,
        LeaseOpened,
        LeaseClosed,
        StepAnswer,
        Failed,
    )
)


def failed_answer(number: int, error: GridError) -> Failed:
    """Return what the node needs to raise `error` again."""
    wanted, limit = 0, 0
    if isinstance(error, CacheFull):
        wanted, limit = error.wanted_tokens, error.free_tokens
    elif isinstance(error, ContextFull):
        wanted, limit = error.wanted_tokens, error.limit_tokens
    return Failed(number=number, code=error.code, text=str(error), wanted_tokens=wanted, limit_tokens=limit)


def decode_engine_message(frame: Frame) -> EngineMessage:
    """Return what a frame between node and worker means.

    Raises:
        ProtocolError: the type is unknown, or a field is missing or out of its limits.
    """
    return _CODEC.decode(frame)
