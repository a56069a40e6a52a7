"""The installed aioquic still has what gridnode takes from its inside."""

from __future__ import annotations

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicFrameType

from gridnode.net.aioquic_private import (
    PACER_BURST_DATAGRAMS,
    BurstPacer,
    PeerQuic,
    SlidingLimit,
    missing_attributes,
)


def test_private_attributes_are_there() -> None:
    assert missing_attributes() == []


def test_receive_window_slides_instead_of_doubling() -> None:
    limit = SlidingLimit(QuicFrameType.MAX_DATA, "max_data", 100, lambda: True)
    limit.used = 50
    limit.value *= 2
    assert limit.value == 100
    limit.used = 51
    limit.value *= 2
    assert limit.value == 151
    limit.used = 1000
    limit.value *= 2
    assert limit.value == 1100


def test_receive_window_stays_shut_while_nobody_reads() -> None:
    limit = SlidingLimit(QuicFrameType.MAX_DATA, "max_data", 100, lambda: False)
    limit.used = 100
    limit.value *= 2
    assert limit.value == 100


def test_pacer_lets_a_burst_pass_and_then_keeps_the_rate() -> None:
    pacer = BurstPacer(max_datagram_size=1000, controller=None)
    pacer.update_rate(congestion_window=1_000_000, smoothed_rtt=1.0)  # 1 datagram per ms
    sent, now = 0, 100.0
    while now < 101.0:
        while pacer.next_send_time(now) is None:
            pacer.update_after_send(now)
            sent += 1
        now += 0.005
    assert 1000 <= sent <= 1000 + PACER_BURST_DATAGRAMS + 1


def test_what_came_on_one_stream_in_many_packets_is_one_event() -> None:
    quic = PeerQuic(QuicConfiguration(is_client=True), max_streams=1, unread_bytes=lambda: 0)
    came: list[QuicEvent] = [
        StreamDataReceived(data=b"a", end_stream=False, stream_id=0),
        StreamDataReceived(data=b"b", end_stream=False, stream_id=0),
        StreamDataReceived(data=b"x", end_stream=False, stream_id=4),
        StreamDataReceived(data=b"c", end_stream=False, stream_id=0),
        StreamDataReceived(data=b"", end_stream=True, stream_id=0),
        StreamReset(error_code=0, stream_id=4),
    ]
    quic._events.extend(came)
    told = list(iter(quic.next_event, None))
    assert told == [
        StreamDataReceived(data=b"ab", end_stream=False, stream_id=0),
        StreamDataReceived(data=b"x", end_stream=False, stream_id=4),
        StreamDataReceived(data=b"c", end_stream=True, stream_id=0),
        came[-1],
    ]
