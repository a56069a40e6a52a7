import pytest

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, SessionId
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.errors import ErrorCode, ProtocolError
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame
from gridnode.wire.messages import (
    Announce,
    Hello,
    HopTrace,
    Message,
    MessageType,
    NextHop,
    OpenPush,
    OpenSession,
    Refused,
    SessionOpened,
    SignedAnnouncement,
    Step,
    StepKind,
    StepResult,
    decode_message,
    expect_message,
)
from gridnode.wire.tensors import TensorHeader

PEER = PeerId(b"p" * 32)
SESSION = SessionId(b"s" * 16)
TRACE = (HopTrace(compute_s=0.001, hop_s=0.002, received_bytes=8, sent_bytes=4),)
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
MESSAGES: list[tuple[Message, bytes]] = [
    (Hello(protocol=1, version="0.1.0", swarm="home"), b""),
    (
        Announce(
            announcements=(SignedAnnouncement(payload=b"x", peer_id=PEER, signature=b"s" * 64, age_s=2.5),)
        ),
        b"",
    ),
    (OPENING, b""),
    (SessionOpened(free_cache_tokens=5), b""),
    (Refused(code=ErrorCode.CACHE_FULL, text="full"), b""),
    (OpenPush(session=SESSION), b""),
    (STEP, b"12345678"),
    (StepResult(step=1, tensor=TensorHeader("float32", (1, 1, 2)), trace=TRACE), b"12345678"),
]


def over_the_wire(frame: Frame) -> Frame:
    (received,) = FrameDecoder().receive_data(b"".join(encode_frame(frame)))
    return received


@pytest.mark.parametrize(("message", "body"), MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_arrive_as_they_were_sent(message: Message, body: bytes) -> None:
    frame = over_the_wire(encode_message(message, body))
    assert decode_message(frame) == message
    assert bytes(frame.body) == body


@pytest.mark.parametrize(("message", "body"), MESSAGES, ids=lambda m: type(m).__name__)
def test_fields_of_later_versions_are_ignored(message: Message, body: bytes) -> None:
    frame = encode_message(message, body)
    assert decode_message(Frame(frame.type, {**frame.header, "colour": "green"}, body)) == message


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (OPENING, "session", b"short"),
        (OPENING, "manifest", "x" * 64),
        (OPENING, "span", {"start": 5, "end": 2}),
        (OPENING, "max_tokens", 0),
        (OPENING, "max_tokens", 2**40),
        (OPENING, "batch", 10_000),
        (OPENING, "previous", b"x"),
        (OPENING, "sampling", {"top_p": 7.0}),
        (STEP, "position", -1),
        (STEP, "kind", "dance"),
        (STEP, "output", "everything"),
        (STEP, "tensor", {"dtype": "float64", "shape": [1, 1]}),
        (STEP, "tensor", {"dtype": "int32", "shape": [-1, 2]}),
        (STEP, "tensor", {"dtype": "int32", "shape": [1, 1, 1, 1, 2]}),
        (STEP, "history", list(range(5000))),
        (STEP, "trace", [{"compute_s": float("nan"), "hop_s": 0.0, "received_bytes": 0, "sent_bytes": 0}]),
    ],
)
def test_fields_out_of_their_limits_are_named(message: Message, field: str, value: object) -> None:
    frame = encode_message(message, b"12345678")
    with pytest.raises(ProtocolError, match=field):
        decode_message(Frame(frame.type, {**frame.header, field: value}, frame.body))


def test_a_body_must_have_the_bytes_of_its_tensor() -> None:
    with pytest.raises(ProtocolError, match=r"int32 tensor 1x2 has 8 bytes, the frame brought 7"):
        decode_message(encode_message(STEP, b"1234567"))


def test_an_unknown_type_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="0x7f"):
        decode_message(Frame(0x7F))


def test_the_wrong_message_is_named() -> None:
    with pytest.raises(ProtocolError, match="OpenPush came where Hello was expected"):
        expect_message(encode_message(OpenPush(session=SESSION)), Hello)
    with pytest.raises(ProtocolError, match="ended where Hello"):
        expect_message(None, Hello)


def test_message_types_leave_the_lowest_to_the_transport() -> None:
    assert min(MessageType) >= 0x10
