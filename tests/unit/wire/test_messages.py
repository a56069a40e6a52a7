import pytest
from wire_samples import OPENING, SAMPLES, SESSION, STEP, decode

from gridnode.errors import ProtocolError
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame
from gridnode.wire.messages import Hello, Message, MessageType, OpenPush, decode_message, expect_message


def over_the_wire(frame: Frame) -> Frame:
    (received,) = FrameDecoder().receive_data(b"".join(encode_frame(frame)))
    return received


@pytest.mark.parametrize(("message", "body"), SAMPLES, ids=lambda m: type(m).__name__)
def test_messages_arrive_as_they_were_sent(message: Message, body: bytes) -> None:
    """A28."""
    frame = over_the_wire(encode_message(message, body))
    assert decode(frame) == message
    assert bytes(frame.body) == body


@pytest.mark.parametrize(("message", "body"), SAMPLES, ids=lambda m: type(m).__name__)
def test_fields_of_later_versions_are_ignored(message: Message, body: bytes) -> None:
    frame = encode_message(message, body)
    assert decode(Frame(frame.type, {**frame.header, "colour": "green"}, body)) == message


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
