"""The congestion controller on a simulated link: no sockets, no clocks."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from aioquic.quic.congestion.base import create_congestion_control
from aioquic.quic.packet_builder import QuicPacketType, QuicSentPacket
from aioquic.tls import Epoch

from gridnode.net.aioquic_private import BurstPacer
from gridnode.net.congestion import BbrController, Phase, register

DATAGRAM_BYTES = 1200
TIMER_S = 0.001  # of the sender, and of the receiver's acknowledgements
MBIT = 1_000_000 / 8


class Simulation:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.random = random.Random(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until


class Link:
    """A bottleneck with a queue that drops at its end, and loss at random behind it."""

    def __init__(self, sim: Simulation, *, mbit: float, rtt_s: float, queue_s: float, loss: float) -> None:
        self.sim = sim
        self.rate = mbit * MBIT
        self.rtt_s = rtt_s
        self.loss = loss
        self._queue_s = queue_s
        self._free_at = 0.0

    def carry(self, size: int, arrive: Callable[[], None]) -> None:
        begin = max(self._free_at, self.sim.now)
        if begin - self.sim.now > self._queue_s:
            return
        self._free_at = begin + size / self.rate
        if self.sim.random.random() >= self.loss:
            self.sim.at(self._free_at + self.rtt_s / 2, arrive)


class Flow:
    """A sender with endless data, or as much as `source_bytes_per_s` gives, and its receiver."""

    def __init__(
        self, link: Link, controller: Any, *, start_s: float = 0.0, source_bytes_per_s: float | None = None
    ) -> None:
        self.link = link
        self.sim = link.sim
        self.controller = controller
        self.pacer = BurstPacer(max_datagram_size=DATAGRAM_BYTES, controller=controller)
        self.delivered_bytes = 0
        self.lost = 0
        self.sent = 0
        self.rtts: deque[float] = deque(maxlen=2000)
        self._source = source_bytes_per_s
        self._start_s = start_s
        self._in_flight: dict[int, QuicSentPacket] = {}
        self._to_ack: list[int] = []
        self._srtt_s = link.rtt_s
        self._heard_at = start_s
        self.sim.at(start_s, self._tick)

    def _tick(self) -> None:
        if self._in_flight and self.sim.now - self._heard_at > 3 * self._srtt_s:
            # A probe timeout: what was sent first is sent again, which is no sign of congestion.
            self._heard_at = self.sim.now
            self.controller.on_packets_expired(packets=[self._in_flight.pop(next(iter(self._in_flight)))])
        self._send()
        # Timers fire late by chance; in step, two senders would meet the same full queue for ever.
        self.sim.at(self.sim.now + TIMER_S * (1 + self.sim.random.random()), self._tick)

    def _has_data(self) -> bool:
        if self._source is None:
            return True
        return self.sent * DATAGRAM_BYTES < (self.sim.now - self._start_s) * self._source

    def _send(self) -> None:
        now = self.sim.now
        while self.controller.bytes_in_flight + DATAGRAM_BYTES <= self.controller.congestion_window:
            if not self._has_data():
                if isinstance(self.controller, BbrController):
                    self.controller.on_app_limited()
                return
            if self.pacer.next_send_time(now) is not None:
                return
            packet = QuicSentPacket(
                epoch=Epoch.ONE_RTT,
                in_flight=True,
                is_ack_eliciting=True,
                is_crypto_packet=False,
                packet_number=self.sent,
                packet_type=QuicPacketType.ONE_RTT,
                sent_time=now,
                sent_bytes=DATAGRAM_BYTES,
            )
            self.sent += 1
            self._in_flight[packet.packet_number] = packet
            self.controller.on_packet_sent(packet=packet)
            self.pacer.update_after_send(now)
            self.link.carry(DATAGRAM_BYTES, lambda number=packet.packet_number: self._arrived(number))

    def _arrived(self, number: int) -> None:
        self.delivered_bytes += DATAGRAM_BYTES
        self._to_ack.append(number)
        if len(self._to_ack) == 1:
            self.sim.at(self.sim.now + TIMER_S, self._acknowledge)

    def _acknowledge(self) -> None:
        numbers, self._to_ack = self._to_ack, []
        self.sim.at(self.sim.now + self.link.rtt_s / 2, lambda: self._acknowledged(numbers))

    def _acknowledged(self, numbers: list[int]) -> None:
        now = self._heard_at = self.sim.now
        packets = [self._in_flight.pop(number) for number in numbers if number in self._in_flight]
        if not packets:
            return
        for packet in packets:
            self.controller.on_packet_acked(now=now, packet=packet)
        assert packet.sent_time is not None
        rtt_s = now - packet.sent_time
        self.rtts.append(rtt_s)
        self._srtt_s += (rtt_s - self._srtt_s) / 8
        self.controller.on_rtt_measurement(now=now, rtt=rtt_s)
        lost = list(itertools.takewhile(lambda sent: sent <= numbers[-1] - 3, self._in_flight))
        if lost:
            self.lost += len(lost)
            self.controller.on_packets_lost(now=now, packets=[self._in_flight.pop(number) for number in lost])
        self.pacer.update_rate(self.controller.congestion_window, self._srtt_s)
        self._send()


def bbr() -> BbrController:
    return BbrController(max_datagram_size=DATAGRAM_BYTES)


def cubic() -> Any:
    return create_congestion_control("cubic", max_datagram_size=DATAGRAM_BYTES)


def wide_link(*, mbit: float = 100, rtt_s: float = 0.05, queue_s: float = 0.05, loss: float = 0.0) -> Link:
    return Link(Simulation(), mbit=mbit, rtt_s=rtt_s, queue_s=queue_s, loss=loss)


def utilisation(link: Link, flow: Flow, duration_s: float) -> float:
    link.sim.run(duration_s)
    return flow.delivered_bytes / (duration_s * link.rate)


def test_aioquic_finds_it_by_name() -> None:
    assert isinstance(create_congestion_control(register(), max_datagram_size=1200), BbrController)


@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01])
def test_loss_leaves_at_least_half_of_a_fast_link(loss: float) -> None:
    link = wide_link(loss=loss)
    flow = Flow(link, bbr())
    assert utilisation(link, flow, 5.0) >= 0.5


def test_cubic_does_not_which_is_why_there_is_another() -> None:
    link = wide_link(loss=0.01)
    flow = Flow(link, cubic())
    assert utilisation(link, flow, 5.0) < 0.3


def test_a_link_at_home_is_filled_without_many_losses() -> None:
    link = wide_link(rtt_s=0.0005, queue_s=0.005)
    flow = Flow(link, bbr())
    assert utilisation(link, flow, 3.0) >= 0.9
    assert flow.lost < 0.03 * flow.sent


def test_long_fat_link_is_filled() -> None:
    link = wide_link(mbit=50, rtt_s=0.2, loss=0.005)
    flow = Flow(link, bbr())
    assert utilisation(link, flow, 8.0) >= 0.5


def test_queue_stays_short() -> None:
    link = wide_link(mbit=50, queue_s=1.0)
    flow = Flow(link, bbr())
    link.sim.run(5.0)
    assert sorted(flow.rtts)[len(flow.rtts) // 2] < 2 * link.rtt_s
    assert flow.lost == 0


def test_shallow_queue_does_not_lose_much() -> None:
    link = wide_link(queue_s=0.01)
    flow = Flow(link, bbr())
    assert utilisation(link, flow, 5.0) >= 0.5
    assert flow.lost < 0.1 * flow.sent


@pytest.mark.parametrize("late_s", [0.0, 2.0], ids=["together", "one later"])
@pytest.mark.parametrize("queue_s", [0.02, 0.05, 0.2])
def test_two_flows_share_a_link(queue_s: float, late_s: float) -> None:
    link = wide_link(mbit=20, queue_s=queue_s)
    flows = [Flow(link, bbr()), Flow(link, bbr(), start_s=late_s)]
    link.sim.run(late_s + 8.0)
    before = [flow.delivered_bytes for flow in flows]
    link.sim.run(late_s + 30.0)
    shares = [
        (flow.delivered_bytes - start) / (22.0 * link.rate) for flow, start in zip(flows, before, strict=True)
    ]
    assert min(shares) >= 0.25
    assert sum(shares) >= 0.75
    assert all(flow.lost < 0.1 * flow.sent for flow in flows)


@pytest.mark.parametrize(("queue_s", "share"), [(0.05, 0.04), (0.2, 0.25)])
def test_cubic_beside_it_keeps_something(queue_s: float, share: float) -> None:
    link = wide_link(mbit=20, queue_s=queue_s)
    ours, theirs = Flow(link, bbr()), Flow(link, cubic())
    link.sim.run(8.0)
    before = theirs.delivered_bytes, ours.delivered_bytes
    link.sim.run(30.0)
    assert (theirs.delivered_bytes - before[0]) / (22.0 * link.rate) >= share
    assert (ours.delivered_bytes - before[1]) / (22.0 * link.rate) >= 0.2


def test_slow_application_does_not_shrink_the_model() -> None:
    link = wide_link()
    flow = Flow(link, bbr())
    link.sim.run(2.0)
    flow._source = 1.0  # nothing more to send
    rate = flow.controller.delivery_rate_bytes_per_s
    link.sim.run(4.0)
    assert flow.controller.delivery_rate_bytes_per_s == pytest.approx(rate, rel=0.05)


def test_longer_path_is_noticed() -> None:
    link = wide_link(mbit=20)
    flow = Flow(link, bbr())
    link.sim.run(3.0)
    link.rtt_s = 0.15
    link.sim.run(20.0)
    before = flow.delivered_bytes
    link.sim.run(30.0)
    assert flow.controller._rtt_s == pytest.approx(0.15, rel=0.2)
    assert (flow.delivered_bytes - before) / (10.0 * link.rate) >= 0.5


def test_persistent_congestion_starts_over() -> None:
    link = wide_link()
    flow = Flow(link, bbr())
    link.sim.run(2.0)
    assert flow.controller.phase is Phase.PROBE_BW
    flow.controller.on_persistent_congestion()
    assert flow.controller.phase is Phase.STARTUP
    assert flow.controller.congestion_window == 4 * DATAGRAM_BYTES


def test_nothing_is_kept_about_packets_that_are_gone() -> None:
    link = wide_link(loss=0.01)
    flow = Flow(link, bbr())
    link.sim.run(1.0)
    assert len(flow.controller._sent) == len(flow._in_flight)
    assert flow.controller.bytes_in_flight == DATAGRAM_BYTES * len(flow._in_flight)
