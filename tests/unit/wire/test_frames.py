"""Frames: whatever is sent arrives, however it is cut; whatever is nonsense is refused."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.errors import FrameTooLarge, ProtocolError
from gridnode.wire.frames import (
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADER_ITEMS,
    PREFIX_BYTES,
    Frame,
    FrameDecoder,
    encode_frame,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FRAMES = st.builds(
    Frame,
    type=st.integers(0, 255),
    header=st.dictionaries(st.text(max_size=10), VALUES, max_size=5),
    body=st.binary(max_size=300),
    flags=st.integers(0, 255),
)


def encoded(*frames: Frame) -> bytes:
    return b"".join(bytes(piece) for frame in frames for piece in encode_frame(frame))


def decoded(data: bytes, **limits: int) -> list[Frame]:
    return list(FrameDecoder(**limits).receive_data(data))


@given(st.lists(FRAMES, max_size=4), st.data())
def test_frames_survive_being_cut_at_any_point(frames: list[Frame], data: st.DataObject) -> None:
    stream = encoded(*frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))
    decoder = FrameDecoder()
    received: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.receive_data(stream[start:end])
    assert received == frames
    assert decoder.buffered_bytes == 0
    assert decoder.decoded_bytes == len(stream)


@given(FRAMES)
def test_frames_survive_byte_by_byte(frame: Frame) -> None:
    decoder = FrameDecoder()
    received = [got for byte in encoded(frame, frame) for got in decoder.receive_data(bytes([byte]))]
    assert received == [frame, frame]


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_waits_but_never_crashes(garbage: bytes) -> None:
    decoder = FrameDecoder(max_frame_bytes=200)
    try:
        list(decoder.receive_data(garbage))
    except ProtocolError:
        return
    assert decoder.buffered_bytes <= 204


@given(st.integers(0, 255), st.binary(max_size=100))
def test_garbage_header_is_refused_or_a_map(frame_type: int, packed: bytes) -> None:
    data = struct.pack("!IBBH", 4 + len(packed), frame_type, 0, len(packed)) + packed
    try:
        [frame] = decoded(data)
    except ProtocolError:
        return
    assert all(isinstance(key, str | bytes) for key in frame.header)


@given(st.integers(MAX_FRAME_BYTES + 1, 2**32 - 1))
def test_oversize_frame_is_refused_by_its_length_alone(length: int) -> None:
    with pytest.raises(FrameTooLarge) as caught:
        decoded(struct.pack("!I", length))
    assert caught.value.length_bytes == length
    assert caught.value.limit_bytes == MAX_FRAME_BYTES


def test_oversize_frame_is_not_sent() -> None:
    with pytest.raises(FrameTooLarge):
        encode_frame(Frame(0x10, body=bytes(MAX_FRAME_BYTES)))


def test_largest_frame_passes() -> None:
    body = bytes(MAX_FRAME_BYTES - (PREFIX_BYTES - 4))
    [frame] = decoded(encoded(Frame(0x10, body=body)))
    assert frame.body == body


def test_oversize_header_is_not_sent() -> None:
    with pytest.raises(FrameTooLarge):
        encode_frame(Frame(0x10, {"text": "x" * MAX_HEADER_BYTES}))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_frame_too_short_for_its_prefix_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match="too short"):
        decoded(struct.pack("!I", length) + bytes(4))


def test_header_longer_than_its_frame_is_refused() -> None:
    with pytest.raises(ProtocolError, match="header of 10 bytes"):
        decoded(struct.pack("!IBBH", 6, 0x10, 0, 10) + bytes(2))


@pytest.mark.parametrize(
    "header",
    [
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": list(range(MAX_HEADER_ITEMS + 1))}),
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"a": 1}) + b"\x00",
        msgpack.packb({"a": 1})[:-1],
        b"\xc1",
        b"\x81\xa1a" + b"\x91" * 5000,
        b"\x81\xa1\xff\x01",
    ],
    ids=["list", "int key", "long list", "extension", "trailing", "cut", "unused code", "deep", "not utf-8"],
)
def test_bad_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        decoded(struct.pack("!IBBH", 4 + len(header), 0x10, 0, len(header)) + header)


def test_frames_before_garbage_are_delivered() -> None:
    decoder = FrameDecoder()
    frames = decoder.receive_data(encoded(Frame(0x10, body=b"good")) + struct.pack("!I", 1))
    assert next(frames).body == b"good"
    with pytest.raises(ProtocolError):
        next(frames)


def test_body_may_be_a_view_of_wider_items() -> None:
    body = memoryview(struct.pack("!4d", 1, 2, 3, 4)).cast("d")
    [frame] = decoded(encoded(Frame(0x10, body=body)))
    assert frame.body == bytes(body)
