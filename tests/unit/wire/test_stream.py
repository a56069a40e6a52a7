"""The sans-IO stream: credit and the end of a stream are invisible to the application."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.errors import FrameTooLarge, ProtocolError
from gridnode.wire.frames import Frame, encode_frame
from gridnode.wire.stream import FIRST_APPLICATION_TYPE, StreamProtocol, TransportFrame

KIND = FIRST_APPLICATION_TYPE


def encoded(frame: Frame) -> bytes:
    return b"".join(bytes(piece) for piece in encode_frame(frame))


def sent(stream: StreamProtocol, body: bytes) -> bytes:
    return b"".join(bytes(piece) for piece in stream.send(Frame(KIND, body=body)))


def test_credit_returns_as_the_application_reads() -> None:
    near, far = StreamProtocol(credit_bytes=100), StreamProtocol(credit_bytes=100)
    far.receive_data(sent(near, bytes(100)))
    assert not near.has_credit
    assert far.data_to_send() == b""
    assert far.next_frame() == Frame(KIND, body=bytes(100))
    near.receive_data(far.data_to_send())
    assert near.has_credit
    assert near.next_frame() is None


def test_finish_is_seen_after_the_last_frame() -> None:
    near, far = StreamProtocol(), StreamProtocol()
    far.receive_data(sent(near, b"last") + near.finish())
    assert far.is_finished_by_peer
    assert far.next_frame() == Frame(KIND, body=b"last")
    assert far.next_frame() is None
    assert not far.is_finished


def test_finished_side_still_grants_credit() -> None:
    near, far = StreamProtocol(credit_bytes=100), StreamProtocol(credit_bytes=100)
    far.receive_data(near.finish())
    near.receive_data(sent(far, bytes(200)))
    near.next_frame()
    far.receive_data(near.data_to_send())
    assert far.has_credit


def test_frame_after_finish_is_refused() -> None:
    near, far = StreamProtocol(), StreamProtocol()
    late = sent(near, b"late")
    with pytest.raises(ProtocolError, match="after finishing"):
        far.receive_data(near.finish() + late)


def test_frames_without_credit_are_refused() -> None:
    far = StreamProtocol(credit_bytes=100)
    frame = encoded(Frame(KIND, body=bytes(100)))
    with pytest.raises(ProtocolError, match="without credit"):
        far.receive_data(frame + frame)


def test_frame_without_credit_is_refused_before_it_is_complete() -> None:
    far = StreamProtocol(credit_bytes=100)
    far.receive_data(encoded(Frame(KIND, body=bytes(100))))
    with pytest.raises(ProtocolError, match="without credit"):
        far.receive_data(encoded(Frame(KIND, body=bytes(1000)))[:100])


@pytest.mark.parametrize("kind", [0x00, 0x03, 0x0F])
def test_unknown_transport_frame_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match="unknown transport type"):
        StreamProtocol().receive_data(encoded(Frame(kind)))


def test_application_cannot_send_transport_frames() -> None:
    with pytest.raises(ValueError, match="belong to the transport"):
        StreamProtocol().send(Frame(TransportFrame.CREDIT))


def test_refused_frame_costs_no_credit() -> None:
    near = StreamProtocol(credit_bytes=100)
    with pytest.raises(FrameTooLarge):
        near.send(Frame(KIND, {"x": "y" * 100_000}))
    assert near.has_credit


@given(st.binary(max_size=300))
def test_garbage_never_crashes(garbage: bytes) -> None:
    stream = StreamProtocol(credit_bytes=100, max_frame_bytes=200)
    try:
        stream.receive_data(garbage)
    except ProtocolError:
        return
    assert stream.buffered_bytes <= 100 + 204


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=40),
    st.integers(1, 50),
)
def test_everything_arrives_in_order_both_ways(script: list[tuple[bool, int]], cut: int) -> None:
    sides = (StreamProtocol(credit_bytes=200), StreamProtocol(credit_bytes=200))
    wire = [bytearray(), bytearray()]  # wire[i]: on its way to side i
    told: list[list[int]] = [[], []]
    heard: list[list[int]] = [[], []]

    def settle() -> None:
        while wire[0] or wire[1]:
            for index, side in enumerate(sides):
                data, wire[index][:cut] = bytes(wire[index][:cut]), b""
                side.receive_data(data)
                while (frame := side.next_frame()) is not None:
                    heard[index].append(len(frame.body))
                wire[1 - index] += side.data_to_send()

    for from_first, size in script:
        source = 0 if from_first else 1
        if not sides[source].has_credit:
            settle()
        wire[1 - source] += sent(sides[source], bytes(size))
        told[source].append(size)
    settle()
    assert heard == [told[1], told[0]]
