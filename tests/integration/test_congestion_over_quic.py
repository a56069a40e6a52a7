"""The congestion controller inside real QUIC connections, over a simulated link in simulated time."""

from __future__ import annotations

import random
import ssl
from collections import deque

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

from gridnode.net.aioquic_private import RECEIVE_WINDOW_BYTES, PeerQuic
from gridnode.net.congestion import register
from gridnode.net.identity import Identity
from gridnode.net.quic_driver import ALPN
from gridnode.units import MIB

RATE = 20e6 / 8  # bytes per s
RTT_S = 0.05
QUEUE_S = 0.05
DURATION_S = 4.0
ADDRESS = ("192.0.2.1", 1)


def quic(*, is_client: bool, controller: str, original: bytes | None = None) -> PeerQuic:
    identity = Identity.generate()
    configuration = QuicConfiguration(
        alpn_protocols=[ALPN],
        certificate=identity.certificate,
        congestion_control_algorithm=controller,
        is_client=is_client,
        max_data=RECEIVE_WINDOW_BYTES,
        max_stream_data=RECEIVE_WINDOW_BYTES,
        private_key=identity.private_key,
        verify_mode=ssl.CERT_NONE,
    )
    return PeerQuic(
        configuration, max_streams=8, unread_bytes=lambda: 0, original_destination_connection_id=original
    )


class Direction:
    """One direction of the link: a bottleneck with a queue, and loss at random behind it."""

    def __init__(self, loss: float) -> None:
        self._loss = loss
        self._random = random.Random(3)
        self._free_at = 0.0
        self._travelling: deque[tuple[float, bytes]] = deque()

    def send(self, data: bytes, now: float) -> None:
        begin = max(self._free_at, now)
        if begin - now <= QUEUE_S:
            self._free_at = begin + len(data) / RATE
            if self._random.random() >= self._loss:
                self._travelling.append((self._free_at + RTT_S / 2, data))

    def arrived(self, now: float) -> list[bytes]:
        arrived = []
        while self._travelling and self._travelling[0][0] <= now:
            arrived.append(self._travelling.popleft()[1])
        return arrived


def step(end: PeerQuic, incoming: Direction, outgoing: Direction, now: float) -> int:
    """Let one end do what is due; return the bytes of streams that it received."""
    for data in incoming.arrived(now):
        end.receive_datagram(data, ADDRESS, now=now)
    if not end.has_started and not end.configuration.is_client:
        return 0
    if (due := end.get_timer()) is not None and due <= now:
        end.handle_timer(now=now)
    received = 0
    while (event := end.next_event()) is not None:
        if isinstance(event, StreamDataReceived):
            received += len(event.data)
    for data, _ in end.datagrams_to_send(now=now):
        outgoing.send(data, now)
    return received


def transferred_bytes(loss: float, controller: str) -> int:
    """Return what a client with endless data brings to a server in `DURATION_S`."""
    client = quic(is_client=True, controller=controller)
    client.connect(ADDRESS, now=0.0)
    server = quic(is_client=False, controller=controller, original=client.original_destination_connection_id)
    forth, back = Direction(loss), Direction(loss)
    received = 0
    now = 0.0
    while now < DURATION_S:
        if client.is_confirmed and client.unacked_bytes(0) < MIB:
            client.send_stream_data(0, bytes(MIB))
        step(client, back, forth, now)
        received += step(server, forth, back, now)
        now += 0.001
    return received


@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01])
def test_quic_keeps_at_least_half_of_a_lossy_link(loss: float) -> None:
    assert transferred_bytes(loss, register()) >= 0.5 * RATE * DURATION_S


def test_cubic_does_not() -> None:
    assert transferred_bytes(0.01, "cubic") < 0.3 * RATE * DURATION_S
