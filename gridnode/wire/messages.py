"""What frames between peers mean.

A stream's first message says what the stream is for: `Hello` (who belongs to which swarm, the first stream of
every connection), `OpenNews` (announcements, both ways), `OpenSession` (a client and one hop), `OpenPush` (a
hop and the next one). Fields that this version does not know
are ignored, so that protocols N and N-1 interoperate.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, ClassVar, Literal, TypeVar

from msgspec import Meta

from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_ADDRESSES, MAX_TTL_S
from gridnode.core.ids import (
    MAX_SWARM_NAME_CHARACTERS,
    PEER_ID_BYTES,
    SESSION_ID_BYTES,
    PeerId,
    SessionId,
)
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.core.swarm_pass import MAX_SWARM_KEYS, NONCE_BYTES, SwarmProof
from gridnode.core.swarm_secret import OPAQUE_ID_BYTES, SwarmKey
from gridnode.errors import ErrorCode, ProtocolError
from gridnode.units import MIB
from gridnode.wire.codec import MessageCodec, TypedMessage
from gridnode.wire.frames import Frame
from gridnode.wire.tensors import TensorHeader
from gridnode.wire.tuning import NOT_TUNED, Tuning

PROTOCOL_VERSION = 1
# Swarms are upgraded node by node: each version understands the one before it.
MAX_PROTOCOL_DIFFERENCE = 1
# Announcements in one message; more are sent in several.
MAX_ANNOUNCEMENTS_PER_MESSAGE = 16
# One announcement with every list at its limit, packed.
MAX_ANNOUNCEMENT_BYTES = 4096
MAX_TEXT_CHARACTERS = 1000
MAX_HOPS = 128
# Rows of one session; tokens of one session (2 M: the longest contexts that models claim).
MAX_BATCH = 64
# Whoever waits holds a stream, and perhaps leases elsewhere.
MAX_LEASE_WAIT_S = 60.0
MAX_SESSION_TOKENS = 2**21
# The files of the largest tokenizers (250 thousand words) are 35 MB together.
MAX_TEXT_BYTES = 64 * MIB
MAX_TEXT_FILES = 16

ShortText = Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)]
PeerIdField = Annotated[PeerId, Meta(min_length=PEER_ID_BYTES, max_length=PEER_ID_BYTES)]
SessionIdField = Annotated[SessionId, Meta(min_length=SESSION_ID_BYTES, max_length=SESSION_ID_BYTES)]
OpaqueIdField = Annotated[bytes, Meta(min_length=OPAQUE_ID_BYTES, max_length=OPAQUE_ID_BYTES)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
Output = Literal["none", "hidden", "normed", "token", "tokens", "logits", "all_logits", "likelihoods"]
"""What the last hop answers for a step.

`normed` are hidden states behind the final norm; `tokens` one choice behind each token of a decode step,
which verifies draft tokens; `likelihoods` the natural logarithm of the probability of each token of
`Step.history` behind the token of the step at the same place, float32, `[1, tokens]`.
"""


class MessageType(IntEnum):
    """Frame types. Those below 0x10 belong to the transport."""

    HELLO = 0x10
    ANNOUNCE = 0x11
    PROVE = 0x12
    NEW_KEY = 0x13
    OPEN_NEWS = 0x14
    OPEN_SESSION = 0x20
    SESSION_OPENED = 0x21
    REFUSED = 0x22
    OPEN_PUSH = 0x23
    STEP = 0x24
    STEP_RESULT = 0x25
    BACKWARD = 0x26
    GRADIENT = 0x27
    FIND_TEXT = 0x30
    TEXT_FOUND = 0x31
    FILE_PIECE = 0x32


class StepKind(StrEnum):
    """Prefill runs the prompt, many tokens at once; decode one new token or a few draft tokens."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(TypedMessage):
    """First message of a connection, in both directions; of a private swarm it tells nothing to strangers."""

    type: ClassVar[int] = MessageType.HELLO
    protocol: Annotated[int, Meta(ge=1, le=1_000_000)]
    version: Annotated[str, Meta(max_length=64)]
    swarm: Annotated[str, Meta(max_length=MAX_SWARM_NAME_CHARACTERS)]
    """Name of a public swarm; empty for a private one."""

    swarm_ids: Annotated[tuple[OpaqueIdField, ...], Meta(max_length=MAX_SWARM_KEYS)] = ()
    """Opaque ids of a private swarm, newest first: several while its key is being replaced."""

    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    """What the other side signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove(TypedMessage):
    """Proves that the sender belongs to the private swarm; who dialled proves first."""

    type: ClassVar[int] = MessageType.PROVE
    proof: SwarmProof


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey(TypedMessage):
    """Gives a newer swarm key to a member who has proven the one before it."""

    type: ClassVar[int] = MessageType.NEW_KEY
    key: SwarmKey


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNews(TypedMessage):
    """First message of a stream of announcements, both ways."""

    type: ClassVar[int] = MessageType.OPEN_NEWS


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAnnouncement:
    """An announcement as its peer signed it, see `gridnode.wire.signing`."""

    payload: Annotated[bytes, Meta(max_length=MAX_ANNOUNCEMENT_BYTES)]
    peer_id: PeerIdField
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    age_s: Annotated[float, Meta(ge=0.0, le=MAX_TTL_S)] = 0.0
    """Seconds since it was made, as the sender knows; not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce(TypedMessage):
    """What the sender knows of itself and of others."""

    type: ClassVar[int] = MessageType.ANNOUNCE
    announcements: Annotated[tuple[SignedAnnouncement, ...], Meta(max_length=MAX_ANNOUNCEMENTS_PER_MESSAGE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """Where a hop sends its output."""

    peer_id: PeerIdField
    addresses: Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession(TypedMessage):
    """Asks a hop to lease KV cache and to take part in a session. Sent by the client to every hop at once."""

    type: ClassVar[int] = MessageType.OPEN_SESSION
    session: SessionIdField
    manifest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    span: Span
    batch: Annotated[int, Meta(ge=1, le=MAX_BATCH)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_SESSION_TOKENS)]
    wait_s: Annotated[float, Meta(ge=0.0, le=MAX_LEASE_WAIT_S)] = 0.0
    """How long to wait for KV cache that others hold, instead of being refused at once."""

    previous: PeerIdField | None = None
    """The only peer that may push steps; None at the first hop, which takes them from the client."""

    next_hop: NextHop | None = None
    """Whom to push to; None at the last hop, which answers the client."""

    sampling: SamplingParams | None = None
    """How the last hop chooses tokens; None is greedy."""

    tuning: Tuning = NOT_TUNED
    """What to add to the blocks; its tensors are in the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(TypedMessage):
    """The lease is granted."""

    type: ClassVar[int] = MessageType.SESSION_OPENED
    free_cache_tokens: Count
    """Tokens that are left for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(TypedMessage):
    """A session that cannot be opened, or a step that failed. The session is over."""

    type: ClassVar[int] = MessageType.REFUSED
    code: ErrorCode
    text: ShortText
    blamed: PeerIdField | None = None
    """Who is at fault, if it is not the sender: a next hop that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPush(TypedMessage):
    """First message of a stream on which a hop pushes the steps of a session to the next hop."""

    type: ClassVar[int] = MessageType.OPEN_PUSH
    session: SessionIdField


@dataclass(frozen=True, slots=True, kw_only=True)
class HopTrace:
    """What one hop did for one step."""

    compute_s: Seconds
    """Time in the span executor."""

    hop_s: Seconds
    """Time from the arrival of the step to the departure of the result, compute included."""

    received_bytes: Count
    sent_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(TypedMessage):
    """New tokens of a session. The body holds token ids (int32) or hidden states."""

    type: ClassVar[int] = MessageType.STEP
    step: Count
    """Counts the steps of a session, for the answer to name."""

    position: Annotated[int, Meta(ge=0, le=MAX_SESSION_TOKENS)]
    """Tokens before these that count; a lower position than reached rolls the caches back."""

    parents: Annotated[tuple[Count, ...], Meta(max_length=MAX_BATCH)] = ()
    """Row i goes on from what row `parents[i]` held before (beam search); none is each from its own."""

    kind: StepKind
    output: Output
    tensor: TensorHeader
    history: Annotated[tuple[Count, ...], Meta(max_length=4096)] = ()
    """Token ids up to the end of this step, sent only if the sampling of the last hop needs them; or those to
    judge."""

    trace: Annotated[tuple[HopTrace, ...], Meta(max_length=MAX_HOPS)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult(TypedMessage):
    """The answer of the last hop. The body holds token ids (int32), logits or hidden states."""

    type: ClassVar[int] = MessageType.STEP_RESULT
    step: Count
    tensor: TensorHeader
    trace: Annotated[tuple[HopTrace, ...], Meta(max_length=MAX_HOPS)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward(TypedMessage):
    """First message of a stream: asks for the gradient of some blocks. Answered by `Gradient` or `Refused`.

    The body holds two tensors, one behind the other: what went into the blocks, and the gradient of what
    came out of them. Positions count from 0.
    """

    type: ClassVar[int] = MessageType.BACKWARD
    manifest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    span: Span
    each: TensorHeader
    """Of each of the two: `[batch, tokens, hidden_size]`."""

    tuning: Tuning = NOT_TUNED
    """What to add to the blocks; its tensors are in the body behind the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient(TypedMessage):
    """The gradient with respect to what went into the blocks, in the body.

    Behind it the gradients with respect to the tensors of `Backward.tuning`, each as long as its tensor.
    """

    type: ClassVar[int] = MessageType.GRADIENT
    tensor: TensorHeader
    behind_bytes: Count = 0
    """Of those other gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindText(TypedMessage):
    """First message of a stream: asks for tokenizer and chat template of a model.

    Answered by `TextFound` and the `FilePiece`s of the files, one file behind the other, or by `Refused`.
    """

    type: ClassVar[int] = MessageType.FIND_TEXT
    manifest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file that follows."""

    name: Annotated[str, Meta(max_length=64)]
    num_bytes: Annotated[int, Meta(ge=0, le=MAX_TEXT_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFound(TypedMessage):
    """The files of a tokenizer."""

    type: ClassVar[int] = MessageType.TEXT_FOUND
    files: Annotated[tuple[FileEntry, ...], Meta(max_length=MAX_TEXT_FILES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePiece(TypedMessage):
    """The next bytes of a file, in the body."""

    type: ClassVar[int] = MessageType.FILE_PIECE


Message = (
    Hello
    | Prove
    | NewKey
    | OpenNews
    | Announce
    | OpenSession
    | SessionOpened
    | Refused
    | OpenPush
    | Step
    | StepResult
    | Backward
    | Gradient
    | FindText
    | TextFound
    | FilePiece
)
M = TypeVar("M", bound=Message)

_CODEC: MessageCodec[Message] = MessageCodec(
    (
        Hello,
        Prove,
        NewKey,
        OpenNews,
        Announce,
        OpenSession,
        SessionOpened,
        Refused,
        OpenPush,
        Step,
        StepResult,
        Backward,
        Gradient,
        FindText,
        TextFound,
        FilePiece,
    )
)


def understands(protocol: int) -> bool:
    """Return whether this version and a peer that speaks `protocol` understand each other."""
    return abs(protocol - PROTOCOL_VERSION) <= MAX_PROTOCOL_DIFFERENCE


def decode_message(frame: Frame) -> Message:
    """Return what a frame of a peer means.

    Raises:
        ProtocolError: the type is unknown, or a field is missing or out of its limits.
    """
    return _CODEC.decode(frame)


def expect_message(frame: Frame | None, cls: type[M]) -> M:
    """Return the message of `frame`, which must be a `cls`.

    Raises:
        ProtocolError: the stream ended, or it is another message.
    """
    if frame is None:
        raise ProtocolError(f"the stream ended where {cls.__name__} was expected")
    message = decode_message(frame)
    if not isinstance(message, cls):
        raise ProtocolError(f"{type(message).__name__} came where {cls.__name__} was expected")
    return message
