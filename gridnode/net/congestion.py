"""Congestion control that measures the path instead of fearing every loss.

Loss-based control (Reno, Cubic) reads each lost packet as a full queue: on a link of 100 Mbit/s and 50 ms
one packet in a thousand costs it nine tenths of the rate. This controller follows BBR version 1
(Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016;
draft-cardwell-iccrg-bbr-congestion-control-00), which keeps a model of the path: the largest delivery rate of
the last rounds and the smallest round-trip time of the last seconds. It sends at that rate and keeps
at most twice their product in flight. Delivery rates are measured as in
draft-cheng-iccrg-delivery-rate-estimation-00.

Where it differs from BBR version 1, whose flows do not share short queues fairly and lose up to a fifth of
their packets there (seen in the simulation of the tests):

- A round that loses more than 3 % of its packets means a full queue. It lowers a ceiling on what is in
  flight, which then grows as the window of Cubic does (RFC 9438): cut in proportion, grow by equal steps.
- A drain lasts until the queue is gone.
- `PROBE_RTT` halves what is in flight instead of stopping almost completely (as version 2 does).
- Times below the granularity of our timers do not count as round-trip times.

Beside Cubic it takes more than its half of a link with a short queue: it bears losses that Cubic does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.packet_builder import QuicSentPacket

NAME = "gridnode-bbr"

# 2/ln 2: the smallest gain that doubles the delivery rate in each round.
_STARTUP_GAIN = 2.885
_DRAIN_GAIN = 1 / _STARTUP_GAIN
# Probe for more in one round of eight, drain what that queued in the next.
_PROBE_CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
_DRAIN_CYCLE = 1
# Twice the product: acknowledgements come in bundles, and probing needs room.
_WINDOW_GAIN = 2.0
_INITIAL_WINDOW_DATAGRAMS = 32
_MIN_WINDOW_DATAGRAMS = 4

_RATE_ROUNDS = 10
"""Rounds for which a measured delivery rate counts."""
_RTT_WINDOW_S = 10.0
"""Seconds for which a measured round-trip time counts."""
_PROBE_RTT_S = 0.2
_FULL_PIPE_GROWTH = 1.25
_FULL_PIPE_ROUNDS = 3
# A round that lost this much had a full queue somewhere: radio links lose 1 % without one.
_LOSSY = 0.03
_LOSSY_DATAGRAMS = 4
# What Cubic does with its window (RFC 9438, 4.6 and 4.7).
_CUT = 0.7
_PEAK_SHARE = 0.25
# Our timers and acknowledgements have steps of 1 ms: a shorter round trip says nothing about queues, and a
# window for it would be empty most of the time.
_MIN_RTT_S = 0.002


class Phase(Enum):
    """What the controller is doing."""

    STARTUP = auto()
    """Doubling the rate each round until deliveries stop following."""

    DRAIN = auto()
    """Sending less until the queue of the startup is gone."""

    PROBE_BW = auto()
    """Keeping the rate, now and then asking for more."""

    PROBE_RTT = auto()
    """Sending less for a moment to see the round-trip time without a queue."""


class _Sent(NamedTuple):
    """The state when a packet was sent."""

    delivered_bytes: int
    delivered_at: float
    first_sent_at: float
    is_app_limited: bool


class BbrController(QuicCongestionControl):
    """One connection's view of its path. Sizes in bytes, times in seconds, all of them arguments."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._max_datagram_size = max_datagram_size
        self._sent: dict[int, _Sent] = {}
        self._delivered_bytes = 0
        self._delivered_at = 0.0
        self._first_sent_at = 0.0
        self._app_limited_until = 0  # in delivered bytes; 0 when the path is the limit
        self._rtt_s: float | None = None
        self._rtt_at = 0.0
        self._recent_rtt_s: float | None = None  # the smallest since `_rtt_at`
        self._probe_rtt_until: float | None = None
        self._path_since = 0.0
        self._restart()

    def _restart(self) -> None:
        """Forget the model: the path may be another one now."""
        self.bytes_in_flight = getattr(self, "bytes_in_flight", 0)
        self.congestion_window = _INITIAL_WINDOW_DATAGRAMS * self._max_datagram_size
        self.phase = Phase.STARTUP
        self._rates: deque[tuple[int, float]] = deque()  # (round, bytes per s), falling rates
        self._round = 0
        self._round_ends_at = 0  # in delivered bytes
        self._round_acked_bytes = 0
        self._round_lost_bytes = 0
        self._round_peak_bytes = 0  # the most that was in flight
        self._ceiling_bytes: float | None = None  # of what may be in flight; None before a lossy round
        self._ceiling_peak_bytes = 0.0  # where the last lossy round was
        self._ceiling_steps = 0  # rounds of growth beyond it
        self._cut_in_round = -2
        self._full_rate = 0.0
        self._full_rounds = 0
        self._cycle = 2  # of _PROBE_CYCLE: begin with a quiet round

    # --- the model ---

    @property
    def delivery_rate_bytes_per_s(self) -> float:
        """The largest delivery rate of the last rounds; 0 before the first measurement."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def pacing_rate_bytes_per_s(self) -> float | None:
        """How fast to send, or None while there is no model yet."""
        rate = self.delivery_rate_bytes_per_s
        if not rate:
            return None
        if self.phase is Phase.STARTUP:
            return _STARTUP_GAIN * rate
        if self.phase is Phase.DRAIN:
            return _DRAIN_GAIN * rate
        return (_PROBE_CYCLE[self._cycle] if self.phase is Phase.PROBE_BW else 1.0) * rate

    def _in_flight(self, gain: float) -> int:
        """Return `gain` times what the path holds without a queue."""
        rtt_s = max(_MIN_RTT_S, self._rtt_s or 0.0)
        return int(gain * self.delivery_rate_bytes_per_s * rtt_s)

    # --- what the library tells ---

    def on_app_limited(self) -> None:
        """Take the news that there was nothing more to send: what follows does not measure the path."""
        self._app_limited_until = max(1, self._delivered_bytes + self.bytes_in_flight)

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        """Remember what a packet will measure."""
        assert packet.sent_time is not None
        if self.bytes_in_flight == 0:
            self._first_sent_at = self._delivered_at = packet.sent_time
        self.bytes_in_flight += packet.sent_bytes
        self._round_peak_bytes = max(self._round_peak_bytes, self.bytes_in_flight)
        self._sent[packet.packet_number] = _Sent(
            self._delivered_bytes, self._delivered_at, self._first_sent_at, self._app_limited_until > 0
        )

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """Measure the delivery rate, and move on in rounds and phases."""
        sent = self._take(packet)
        self._delivered_bytes += packet.sent_bytes
        self._delivered_at = now
        self._round_acked_bytes += packet.sent_bytes
        if 0 < self._app_limited_until < self._delivered_bytes:
            self._app_limited_until = 0
        if sent is None or packet.sent_time is None:
            return
        self._first_sent_at = packet.sent_time
        self._measure_rate(now, packet.sent_time, sent)
        if sent.delivered_bytes >= self._round_ends_at:
            self._end_round(is_app_limited=sent.is_app_limited)
        self._move_on(now)
        self._set_window(packet.sent_bytes)

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        """Forget packets that no longer matter."""
        for packet in packets:
            self._take(packet)

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        """Count lost packets; only many of them in one round mean something."""
        for packet in packets:
            self._take(packet)
            self._round_lost_bytes += packet.sent_bytes

    def on_persistent_congestion(self) -> None:
        """Begin again: nothing arrived for several timeouts."""
        self._restart()
        self.congestion_window = _MIN_WINDOW_DATAGRAMS * self._max_datagram_size

    def on_path_changed(self, now: float) -> None:
        """Begin again on another path; what was sent on the old one measures nothing."""
        self._restart()
        self._sent.clear()
        self._rtt_s = self._recent_rtt_s = self._probe_rtt_until = None
        self._path_since = now

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """Keep the smallest round-trip time of the last seconds."""
        if now - rtt < self._path_since:
            return
        self._recent_rtt_s = rtt if self._recent_rtt_s is None else min(rtt, self._recent_rtt_s)
        if self._rtt_s is None or rtt <= self._rtt_s:
            self._rtt_s, self._rtt_at, self._recent_rtt_s = rtt, now, None
        elif now - self._rtt_at > _RTT_WINDOW_S and self._probe_rtt_until is None:
            if self._app_limited_until or self.phase is not Phase.PROBE_BW:
                # Without a queue of our own, what was seen lately is the round-trip time.
                self._rtt_s, self._rtt_at, self._recent_rtt_s = self._recent_rtt_s, now, None
            else:
                self.phase = Phase.PROBE_RTT
                self._probe_rtt_until = now + _PROBE_RTT_S + self._rtt_s
                self._recent_rtt_s = None

    # --- private ---

    def _take(self, packet: QuicSentPacket) -> _Sent | None:
        self.bytes_in_flight -= packet.sent_bytes
        return self._sent.pop(packet.packet_number, None)

    def _measure_rate(self, now: float, sent_at: float, sent: _Sent) -> None:
        # The slower of sending and acknowledging: bundled acknowledgements would look fast.
        interval_s = max(now - sent.delivered_at, sent_at - sent.first_sent_at)
        if interval_s <= 0 or (self._rtt_s is not None and interval_s < self._rtt_s):
            return
        rate = (self._delivered_bytes - sent.delivered_bytes) / interval_s
        if sent.is_app_limited and rate <= self.delivery_rate_bytes_per_s:
            return  # a slow application says nothing about the path
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((self._round, rate))

    def _end_round(self, *, is_app_limited: bool) -> None:
        self._round_ends_at = self._delivered_bytes
        acked_bytes, self._round_acked_bytes = self._round_acked_bytes, 0
        lost_bytes, self._round_lost_bytes = self._round_lost_bytes, 0
        peak_bytes, self._round_peak_bytes = self._round_peak_bytes, self.bytes_in_flight
        is_lossy = lost_bytes > _LOSSY * (acked_bytes + lost_bytes)
        if is_lossy and lost_bytes >= _LOSSY_DATAGRAMS * self._max_datagram_size:
            self._lower_ceiling(peak_bytes)
        elif self._ceiling_bytes is not None and peak_bytes >= _CUT * self._ceiling_bytes:
            self._raise_ceiling(self._ceiling_bytes)
        if is_app_limited:
            return
        self._round += 1
        while len(self._rates) > 1 and self._rates[0][0] <= self._round - _RATE_ROUNDS:
            self._rates.popleft()
        if self.phase is Phase.PROBE_BW:
            # A drain lasts until the queue is gone: bundled acknowledgements make the rate look a
            # little higher than it is, and otherwise that little would add up.
            if self._cycle != _DRAIN_CYCLE or self.bytes_in_flight <= self._in_flight(1.0):
                self._cycle = (self._cycle + 1) % len(_PROBE_CYCLE)
        elif self.phase is Phase.STARTUP:
            self._look_for_full_pipe()

    def _lower_ceiling(self, peak_bytes: int) -> None:
        """Give way: all flows through a full queue cut in proportion, and grow by equal steps."""
        self._leave_startup()
        if self._round - self._cut_in_round < 2:
            return  # these packets were on their way before the last cut
        self._cut_in_round = self._round
        limit = min(peak_bytes, self._ceiling_bytes or peak_bytes)
        # Meeting a lossy round below the last one means that others have come: leave them more.
        has_company = limit < self._ceiling_peak_bytes
        self._ceiling_peak_bytes = limit * (1 + _CUT) / 2 if has_company else limit
        self._ceiling_bytes = max(_MIN_WINDOW_DATAGRAMS * self._max_datagram_size, limit * _CUT)
        self._ceiling_steps = 0

    def _raise_ceiling(self, ceiling_bytes: float) -> None:
        """Return quickly to where the last lossy round was, then look further, slowly at first."""
        gap = self._ceiling_peak_bytes - ceiling_bytes
        if gap > self._max_datagram_size:
            self._ceiling_bytes = ceiling_bytes + max(self._max_datagram_size, gap * _PEAK_SHARE)
        else:
            self._ceiling_steps += 1
            self._ceiling_bytes = ceiling_bytes + self._ceiling_steps * self._max_datagram_size

    def _look_for_full_pipe(self) -> None:
        if self.delivery_rate_bytes_per_s >= self._full_rate * _FULL_PIPE_GROWTH:
            self._full_rate, self._full_rounds = self.delivery_rate_bytes_per_s, 0
            return
        self._full_rounds += 1
        if self._full_rounds >= _FULL_PIPE_ROUNDS:
            self._leave_startup()

    def _leave_startup(self) -> None:
        if self.phase is Phase.STARTUP:
            self.phase = Phase.DRAIN

    def _move_on(self, now: float) -> None:
        if self.phase is Phase.DRAIN and self.bytes_in_flight <= self._in_flight(1.0):
            self.phase = Phase.PROBE_BW
        elif self._probe_rtt_until is not None and now >= self._probe_rtt_until:
            if self._recent_rtt_s is not None:
                self._rtt_s, self._recent_rtt_s = self._recent_rtt_s, None
            self._rtt_at, self._probe_rtt_until = now, None
            self.phase = Phase.PROBE_BW

    def _set_window(self, acked_bytes: int) -> None:
        smallest = _MIN_WINDOW_DATAGRAMS * self._max_datagram_size
        if not self._rates:
            self.congestion_window += acked_bytes
        elif self.phase is Phase.PROBE_RTT:
            self.congestion_window = max(smallest, self._in_flight(0.5))
        elif self.phase is Phase.STARTUP:
            if self.congestion_window < self._in_flight(_STARTUP_GAIN) + smallest:
                self.congestion_window += acked_bytes
        else:
            target = self._in_flight(_WINDOW_GAIN) + smallest
            self.congestion_window = min(self.congestion_window + acked_bytes, target)
        if self._ceiling_bytes is not None:
            self.congestion_window = min(self.congestion_window, int(self._ceiling_bytes))


def register() -> str:
    """Make the controller known to aioquic, and return the name to configure it with."""
    register_congestion_control(NAME, BbrController)
    return NAME
