"""Every error that gridnode raises on purpose, in one tree.

GridError
├── BadInput                    what a user or a file gave cannot be used
│   ├── BadCheckpoint           weights that are missing, truncated or inconsistent
│   ├── ModelUnknown            nobody in the swarm serves this model
│   └── WrongModel              a peer serves other weights
├── NoCapacity                  nothing is broken, but there is no room or no way now
│   ├── CacheFull               a lease would exceed the KV cache budget
│   ├── ContextFull             a session has no positions left
│   ├── ModelLoading            a node is loading the model: soon it answers
│   ├── NoRoute                 some block is served by nobody
│   ├── RateLimited             too many requests in too short a time
│   └── WrongSpan               a peer does not serve these blocks (any more)
├── KeyRefused                  the door wants a key, another one, or one with another scope
├── SwarmRefused                a peer belongs to another swarm, or lacks its key
├── NotRunning                  no daemon answers on this machine
├── AddressInUse                another process holds the port
├── ProtocolError               the peer sent nonsense: never retry
│   ├── FrameTooLarge           a frame above the limit
│   └── Unauthentic             a wrong key, signature or certificate
├── ConnectionClosed            we closed it
├── PeerLost                    the other side or the network did: another peer may answer
├── PeerRefused                 a peer answered with an error code
├── EngineLost                  the engine worker died with requests on it
└── EngineFailed                the engine worker answered with an error
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from gridnode.commands import up_command


class ErrorCode(StrEnum):
    """What went wrong, in one stable word: on the wire, in JSON and in logs."""

    ADDRESS_IN_USE = "address_in_use"
    BAD_CHECKPOINT = "bad_checkpoint"
    BAD_INPUT = "bad_input"
    CACHE_FULL = "cache_full"
    CONNECTION_CLOSED = "connection_closed"
    CONTEXT_FULL = "context_full"
    ENGINE_FAILED = "engine_failed"
    ENGINE_LOST = "engine_lost"
    FRAME_TOO_LARGE = "frame_too_large"
    INTERNAL = "internal"
    KEY_REFUSED = "key_refused"
    MODEL_LOADING = "model_loading"
    MODEL_UNKNOWN = "model_unknown"
    NO_CAPACITY = "no_capacity"
    NO_ROUTE = "no_route"
    NO_TRAINING = "no_training"
    NOT_RUNNING = "not_running"
    PEER_LOST = "peer_lost"
    PEER_REFUSED = "peer_refused"
    PROTOCOL = "protocol"
    RATE_LIMITED = "rate_limited"
    SESSION_IDLE = "session_idle"
    SWARM_REFUSED = "swarm_refused"
    TIMEOUT = "timeout"
    UNAUTHENTIC = "unauthentic"
    WRONG_MODEL = "wrong_model"
    WRONG_SPAN = "wrong_span"


class GridError(Exception):
    """Base of all errors of gridnode. `code` names the kind for programs."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL


class BadInput(GridError):
    """Raised when what a user or a file gave cannot be used."""

    code = ErrorCode.BAD_INPUT


class BadCheckpoint(BadInput):
    """Raised when weights are missing, truncated or inconsistent."""

    code = ErrorCode.BAD_CHECKPOINT


class ModelUnknown(BadInput):
    """Raised when nobody in the swarm serves the model."""

    code = ErrorCode.MODEL_UNKNOWN


class WrongModel(BadInput):
    """Raised when a session asks a peer for weights that it does not serve."""

    code = ErrorCode.WRONG_MODEL


class NoCapacity(GridError):
    """Raised when nothing is broken, but there is no room or no way now."""

    code = ErrorCode.NO_CAPACITY


class NoTraining(NoCapacity):
    """Raised by a node that neither computes gradients nor takes additions to its blocks, now or later."""

    code = ErrorCode.NO_TRAINING


class SessionIdle(NoCapacity):
    """Raised by a hop that heard nothing of a session for too long and has given its KV cache to others."""

    code = ErrorCode.SESSION_IDLE


class CacheFull(NoCapacity):
    """Raised when a lease would exceed the KV cache budget.

    Attributes:
        wanted_tokens: Tokens asked for.
        free_tokens: Tokens that could have been leased instead.
    """

    code = ErrorCode.CACHE_FULL

    def __init__(self, wanted_tokens: int, free_tokens: int) -> None:
        super().__init__(f"cannot lease {wanted_tokens} tokens of KV cache, {free_tokens} are free")
        self.wanted_tokens = wanted_tokens
        self.free_tokens = free_tokens


class ContextFull(NoCapacity):
    """Raised when a session has no positions left for the tokens of a step.

    Attributes:
        wanted_tokens: Positions that the step would need, counted from 0.
        limit_tokens: Positions that the session holds.
    """

    code = ErrorCode.CONTEXT_FULL

    def __init__(self, wanted_tokens: int, limit_tokens: int) -> None:
        super().__init__(f"{wanted_tokens} tokens do not fit into a context of {limit_tokens}")
        self.wanted_tokens = wanted_tokens
        self.limit_tokens = limit_tokens


class ModelLoading(NoCapacity):
    """Raised when a model will answer soon: nodes are loading its blocks.

    Attributes:
        loaded_blocks: Blocks that are ready, as far as it is known here.
        wanted_blocks: Blocks that are being loaded.
    """

    code = ErrorCode.MODEL_LOADING

    def __init__(self, text: str, *, loaded_blocks: int = 0, wanted_blocks: int = 0) -> None:
        super().__init__(text)
        self.loaded_blocks = loaded_blocks
        self.wanted_blocks = wanted_blocks


class NoRoute(NoCapacity):
    """Raised when some blocks of a model are served by nobody.

    Attributes:
        gaps: Half-open ranges of blocks without a peer.
        is_limited: Whether other peers might serve them, whom the request does not allow.
    """

    code = ErrorCode.NO_ROUTE

    def __init__(
        self, model: str, num_blocks: int, gaps: tuple[tuple[int, int], ...], *, is_limited: bool = False
    ) -> None:
        missing = ", ".join(f"{start}:{end}" for start, end in gaps)
        # Whoever limits the peers may have reasons: nobody else is taken instead.
        whom = " that the request allows (route, allow, block, private, adapter)" if is_limited else ""
        # No quotes around the command: it may have its own, and who pastes them all would undo those.
        super().__init__(
            f"no route for {model}: blocks {missing} of 0:{num_blocks} are served by nobody{whom}; "
            f"start a node for them: {up_command(model, blocks=missing.split(', ')[0])}"
        )
        self.gaps = gaps
        self.is_limited = is_limited


class RateLimited(NoCapacity):
    """Raised when somebody asks more often, or for more at once, than is allowed.

    Attributes:
        limit: How much is allowed; the text says of what.
        retry_after_s: Seconds after which to try again.
    """

    code = ErrorCode.RATE_LIMITED

    def __init__(self, text: str, *, limit: int, retry_after_s: float) -> None:
        super().__init__(text)
        self.limit = limit
        self.retry_after_s = retry_after_s


class WrongSpan(NoCapacity):
    """Raised when a session asks a peer for blocks that it does not serve (any more)."""

    code = ErrorCode.WRONG_SPAN


class KeyRefused(GridError):
    """Raised when the door wants a key, another one, or one with another scope."""

    code = ErrorCode.KEY_REFUSED


class SwarmRefused(GridError):
    """Raised when a peer belongs to another swarm, or one of both sides cannot prove that it does not."""

    code = ErrorCode.SWARM_REFUSED


class NotRunning(GridError):
    """Raised when no daemon answers on this machine."""

    code = ErrorCode.NOT_RUNNING


class AddressInUse(GridError):
    """Raised when another process holds the port."""

    code = ErrorCode.ADDRESS_IN_USE


class ProtocolError(GridError):
    """Raised when a peer sent nonsense. Never retry."""

    code = ErrorCode.PROTOCOL


class FrameTooLarge(ProtocolError):
    """Raised when a frame exceeds its limit, before anything is allocated for it."""

    code = ErrorCode.FRAME_TOO_LARGE

    def __init__(self, length_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"frame of {length_bytes} bytes, at most {limit_bytes} are allowed")
        self.length_bytes = length_bytes
        self.limit_bytes = limit_bytes


class Unauthentic(ProtocolError):
    """Raised when a key, a signature or a certificate is not what it should be."""

    code = ErrorCode.UNAUTHENTIC


class ConnectionClosed(GridError):
    """Raised when we closed the connection or stream ourselves."""

    code = ErrorCode.CONNECTION_CLOSED


class PeerLost(GridError):
    """Raised when the other side or the network ended the connection or stream."""

    code = ErrorCode.PEER_LOST


class PeerRefused(GridError):
    """Raised when a peer answered with an error code instead of a result, or another peer blames it.

    Attributes:
        reason: The code that was given.
        peer_id: Whom to avoid when trying again; empty if avoiding somebody does not help.
    """

    code = ErrorCode.PEER_REFUSED

    def __init__(self, text: str, *, reason: ErrorCode, peer_id: bytes = b"") -> None:
        super().__init__(text)
        self.reason = reason
        self.peer_id = peer_id


class EngineLost(GridError):
    """Raised when the engine worker died with requests on it; it is being restarted."""

    code = ErrorCode.ENGINE_LOST


class EngineFailed(GridError):
    """Raised when the engine worker answered with an error of its own."""

    code = ErrorCode.ENGINE_FAILED


def reason(exc: Exception) -> str:
    """Return what `exc` says, without the number and the path that an error of the system adds."""
    return (isinstance(exc, OSError) and exc.strerror) or str(exc)
