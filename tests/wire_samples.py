"""One message of every kind, as `tests/vectors` keeps them on disk, and reading them whatever they are."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.grants import Use, make_ticket
from gridnode.core.ids import ModelId, PeerId, SessionId
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.core.swarm_pass import SwarmProof
from gridnode.core.swarm_secret import SwarmKey
from gridnode.errors import ErrorCode
from gridnode.wire.frames import Frame
from gridnode.wire.messages import (
    Announce,
    Backward,
    FileEntry,
    FilePiece,
    FindText,
    Gradient,
    Hello,
    HopTrace,
    Message,
    NewKey,
    NextHop,
    OpenNews,
    OpenPush,
    OpenSession,
    Prove,
    Refused,
    SessionOpened,
    Step,
    StepKind,
    StepResult,
    TextFound,
    decode_message,
)
from gridnode.wire.relay_messages import (
    FindMembers,
    Guess,
    Members,
    Observed,
    PathOffer,
    Punch,
    Register,
    Registered,
    RelayMessage,
    RelayRefused,
    decode_relay_message,
    is_relay_message,
)
from gridnode.wire.signing import sign_announcement
from gridnode.wire.tensors import TensorHeader

PEER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEER = PeerId(PEER_KEY.public_key().public_bytes_raw())
SESSION = SessionId(b"s" * 16)
TRACE = (HopTrace(compute_s=0.001, hop_s=0.002, received_bytes=8, sent_bytes=4),)
SERVING = Serving(
    model=ModelId("tiny", "a" * 64),
    num_blocks=6,
    span=Span(0, 3),
    has_embeddings=True,
    has_head=False,
    quantization=QuantFormat.INT4,
    max_session_tokens=100,
    free_cache_tokens=100,
    decode_block_s=0.001,
)
ANNOUNCEMENT = Announcement(
    peer_id=PEER,
    sequence=1_790_000_000_000,
    ttl_s=90.0,
    state=PeerState.ONLINE,
    swarm="home",
    addresses=(Address("192.0.2.7", 7338), Address("2001:db8::7", 7338)),
    public_name="Ada",
    version="0.1.0",
    serving=SERVING,
    rtts=((PEER, 0.02),),
)
OPENING = OpenSession(
    session=SESSION,
    manifest="a" * 64,
    span=Span(0, 3),
    batch=1,
    max_tokens=100,
    previous=PEER,
    next_hop=NextHop(peer_id=PEER, addresses=(Address("192.0.2.7", 7338),)),
    sampling=SamplingParams(temperature=0.5, seed=3),
)
STEP = Step(
    step=1,
    position=5,
    kind=StepKind.PREFILL,
    output="token",
    tensor=TensorHeader("int32", (1, 2)),
    history=(1, 2, 3),
    trace=TRACE,
)
KEY = SwarmKey(seed=bytes(range(32)), made_s=1_790_000_000, older_until_s=1_790_086_400)
GRANT = make_ticket(KEY, bytes(32), use=Use.CHAT, until_s=1_790_086_400).grant
SAMPLES: list[tuple[Message | RelayMessage, bytes]] = [
    (Hello(protocol=1, version="0.1.0", swarm="", swarm_ids=(b"i" * 16,), nonce=b"n" * 32), b""),
    (Prove(proof=SwarmProof(swarm=b"i" * 16, signature=b"s" * 64, grant=GRANT)), b""),
    (NewKey(key=KEY), b""),
    (OpenNews(), b""),
    (
        Announce(announcements=(sign_announcement(ANNOUNCEMENT, PEER_KEY.sign),)),
        b"",
    ),
    (OPENING, b""),
    (SessionOpened(free_cache_tokens=5), b""),
    (Refused(code=ErrorCode.CACHE_FULL, text="full"), b""),
    (OpenPush(session=SESSION), b""),
    (STEP, b"12345678"),
    (StepResult(step=1, tensor=TensorHeader("float32", (1, 1, 2)), trace=TRACE), b"12345678"),
    (
        Backward(manifest="a" * 64, span=Span(0, 3), each=TensorHeader("float32", (1, 1, 2))),
        b"1234567812345678",
    ),
    (Gradient(tensor=TensorHeader("float32", (1, 1, 2))), b"12345678"),
    (FindText(manifest="a" * 64), b""),
    (TextFound(files=(FileEntry(name="tokenizer.json", num_bytes=4),)), b""),
    (FilePiece(), b"{}{}"),
    (Register(swarms=("a" * 43,)), b""),
    (Registered(bytes_per_s=1_000_000), b""),
    (RelayRefused(text="no room"), b""),
    (Observed(address=Address("192.0.2.7", 7338)), b""),
    (FindMembers(), b""),
    (Members(peers=(PEER,)), b""),
    (PathOffer(secret=b"s" * 16, own=(Address("192.0.2.7", 7338),), observed=(), guesses=True), b""),
    (Punch(), b""),
    (Guess(), b""),
]


def decode(frame: Frame) -> Message | RelayMessage:
    """Return what a frame means, to a node or to a relay."""
    return decode_relay_message(frame) if is_relay_message(frame.type) else decode_message(frame)
