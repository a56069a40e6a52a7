"""The ways to a peer, with two sides and a network of numbers between them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.net.carrier import PathKind
from gridnode.net.paths import (
    GIVE_UP_S,
    LOW_HOPS,
    MAX_ROUTES,
    MIN_PATIENCE_S,
    PROBE_INTERVAL_S,
    ROUND_S,
    PeerPaths,
    Sending,
)
from gridnode.wire.relay_packets import make_probe, parse_probe

RELAY, SECOND, LAN, HOME = "relay", "second relay", "lan", "home"
KINDS = {
    RELAY: PathKind.RELAY,
    SECOND: PathKind.RELAY,
    LAN: PathKind.DIRECT,
    HOME: PathKind.PUNCHED,
}
TAGS = (b"a" * 8, b"b" * 8)


class World:
    """Two sides; routes are named alike on both, and have one delay in each direction."""

    def __init__(self, **delays_s: float) -> None:
        self.now = 100.0
        self.delays_s = dict(delays_s)
        self.sides = [
            PeerPaths(tag=tag, secret=bytes([i]) * 16, first_number=i * 2**32) for i, tag in enumerate(TAGS)
        ]
        self.sent: list[tuple[float, int, Sending]] = []
        self._flying: list[tuple[float, int, int, Sending]] = []
        self._numbers = itertools.count()
        self.is_through: Callable[[int, Sending], bool] = lambda side, sending: True

    def introduce(self, *relays: str) -> None:
        """Let both sides know of the relays, and of each other's secret."""
        for side, other in (self.sides, self.sides[::-1]):
            for relay in relays:
                side.add(relay, KINDS[relay])
            side.accept_secret(other.secret)

    def punch(self, *routes: str) -> None:
        for side in self.sides:
            for route in routes:
                side.add(route, KINDS[route])
            side.begin_round(routes, now=self.now)

    def run(self, duration_s: float, *, data: bool = False) -> None:
        """Let time pass; with `data`, both sides send all the time."""
        until = self.now + duration_s
        while self.now < until:
            self.now += 0.01
            while self._flying and self._flying[0][0] <= self.now:
                _, _, side, sending = heapq.heappop(self._flying)
                self._arrive(side, sending)
            for index, side in enumerate(self.sides):
                if data:
                    side.routes()
                due = side.next_deadline()
                if due is not None and due <= self.now:
                    self._send(index, side.handle_timer(now=self.now))

    def _send(self, index: int, sendings: list[Sending]) -> None:
        for sending in sendings:
            self.sent.append((self.now, index, sending))
            delay_s = self.delays_s.get(str(sending.route))
            if delay_s is not None and self.is_through(index, sending):
                item = (self.now + delay_s, next(self._numbers), 1 - index, sending)
                heapq.heappush(self._flying, item)

    def _arrive(self, index: int, sending: Sending) -> None:
        probe = parse_probe(sending.data)
        assert probe is not None
        kind = KINDS[str(sending.route)]
        self._send(index, self.sides[index].receive(probe, sending.route, kind, now=self.now))

    def active(self) -> list[object]:
        return [side.active.route if side.active else None for side in self.sides]


def test_before_anything_is_known_packets_go_over_all_relays() -> None:
    world = World()
    world.introduce(RELAY, SECOND)
    assert world.sides[0].routes() == [RELAY, SECOND]


def test_of_two_relays_the_nearer_one_is_taken() -> None:
    world = World(**{RELAY: 0.08, SECOND: 0.02})
    world.introduce(RELAY, SECOND)
    for side in world.sides:
        side.prove_relays(now=world.now)
    world.run(1.0)
    assert world.active() == [SECOND, SECOND]


def test_a_direct_way_takes_over_from_the_relay_and_a_local_one_from_a_punched_one() -> None:
    world = World(**{RELAY: 0.03, HOME: 0.01, LAN: 0.02})
    world.introduce(RELAY)
    world.punch(HOME)
    world.run(1.0)
    assert world.active() == [HOME, HOME]
    world.punch(LAN)
    world.run(1.0)
    assert world.active() == [LAN, LAN], "the kind counts before the time"
    assert all(side.routes() == [LAN] for side in world.sides)


def test_a_way_that_is_hardly_faster_is_not_worth_a_change() -> None:
    world = World(**{RELAY: 0.020, SECOND: 0.019})
    world.introduce(RELAY)
    for side in world.sides:
        side.prove_relays(now=world.now)
    world.run(0.5)
    world.introduce(SECOND)
    for side in world.sides:
        side.prove_relays(now=world.now)
    world.run(0.5)
    assert world.active() == [RELAY, RELAY]


def test_who_asks_for_probes_opens_its_router_first_without_reaching_the_other_one() -> None:
    world = World(**{RELAY: 0.03, HOME: 0.01})
    world.introduce(RELAY)
    world.is_through = lambda side, sending: sending.hops is None
    asking, asked = world.sides
    asking.add(HOME, PathKind.PUNCHED)
    asking.open_to([HOME], now=world.now)
    world.run(0.1)
    assert [sending.hops for _, side, sending in world.sent if side == 0] == [LOW_HOPS, LOW_HOPS]
    asked.add(HOME, PathKind.PUNCHED)
    asked.begin_round([HOME], now=world.now)
    world.run(0.1)
    assert world.active() == [HOME, HOME], "the probes of one side are enough"


def test_a_round_without_success_ends_and_leaves_nothing() -> None:
    world = World(**{RELAY: 0.03})
    world.introduce(RELAY)
    world.punch(HOME)
    world.run(ROUND_S + 0.1)
    assert all([path.route for path in side.paths()] == [RELAY] for side in world.sides)
    sent = len(world.sent)
    world.run(100.0)
    assert len(world.sent) == sent, "silence, so that routers forget"


def punched() -> World:
    world = World(**{RELAY: 0.03, HOME: 0.01})
    world.introduce(RELAY)
    world.punch(HOME)
    world.run(ROUND_S + 0.1, data=True)
    assert world.active() == [HOME, HOME]
    return world


def test_a_silent_way_without_data_costs_nothing() -> None:
    world = punched()
    world.run(PROBE_INTERVAL_S * 2)
    sent = len(world.sent)
    world.run(100.0)
    assert len(world.sent) == sent


@pytest.mark.parametrize("cut", [{0}, {1}, {0, 1}])
def test_a_cut_way_is_doubted_within_a_second_and_left_within_four(cut: set[int]) -> None:
    world = punched()
    world.is_through = lambda side, sending: sending.route != HOME or side not in cut
    world.run(PROBE_INTERVAL_S + MIN_PATIENCE_S + 0.1, data=True)
    for side in world.sides:
        assert side.routes() == [HOME, RELAY], "both, until it is clear"
    world.run(GIVE_UP_S + 0.3, data=True)
    assert world.active() == [RELAY, RELAY]


def test_a_way_that_was_only_slow_for_a_moment_is_kept() -> None:
    world = punched()
    world.is_through = lambda side, sending: sending.route != HOME
    world.run(1.0, data=True)
    assert all(side.is_in_doubt for side in world.sides)
    world.is_through = lambda side, sending: True
    world.run(0.5, data=True)
    assert world.active() == [HOME, HOME]
    assert not any(side.is_in_doubt for side in world.sides)


def test_without_any_other_way_packets_keep_trying_the_one_there_is() -> None:
    world = punched()
    for side in world.sides:
        side.remove(RELAY)
    world.is_through = lambda side, sending: False
    world.run(30.0, data=True)
    assert world.active() == [HOME, HOME]
    world.is_through = lambda side, sending: True
    world.run(1.0, data=True)
    assert not any(side.is_in_doubt for side in world.sides)


def test_a_peer_that_is_left_alone_costs_nothing_and_is_met_again_over_the_relay() -> None:
    world = punched()
    world.is_through = lambda side, sending: False
    world.run(PROBE_INTERVAL_S + MIN_PATIENCE_S + 0.1, data=True)
    assert not any(side.is_hopeless(now=world.now) for side in world.sides)
    world.run(GIVE_UP_S)
    assert all(side.is_hopeless(now=world.now) for side in world.sides)
    for side in world.sides:
        side.rest()
        assert not side.is_in_doubt
        assert side.next_deadline() is None
    sent = len(world.sent)
    world.run(100.0)
    assert len(world.sent) == sent
    world.is_through = lambda side, sending: True
    assert all(side.routes() == [RELAY] for side in world.sides)
    world.punch(HOME)
    world.run(1.0, data=True)
    assert world.active() == [HOME, HOME]


def test_a_relay_that_dies_hands_over_to_the_other_one() -> None:
    world = World(**{RELAY: 0.02, SECOND: 0.03})
    world.introduce(RELAY, SECOND)
    for side in world.sides:
        side.prove_relays(now=world.now)
    world.run(1.0, data=True)
    assert world.active() == [RELAY, RELAY]
    del world.delays_s[RELAY]
    world.run(PROBE_INTERVAL_S + MIN_PATIENCE_S + 0.1, data=True)
    assert all(side.routes() == [RELAY, SECOND] for side in world.sides)
    world.run(GIVE_UP_S + 0.3, data=True)
    assert world.active() == [SECOND, SECOND]


def test_a_relay_that_is_taken_away_is_replaced_at_once() -> None:
    world = World(**{RELAY: 0.02, SECOND: 0.03})
    world.introduce(RELAY, SECOND)
    side = world.sides[0]
    for each in world.sides:
        each.prove_relays(now=world.now)
    world.run(1.0)
    assert side.remove(RELAY)
    assert side.routes() == [SECOND]
    assert not side.remove("unknown")


def test_who_does_not_know_the_secret_is_not_answered_and_teaches_nothing() -> None:
    world = punched()
    side = world.sides[0]
    for secret in (bytes(16), world.sides[1].secret):
        if secret == side.secret:
            continue
        for is_answer in (True, False):
            probe = parse_probe(make_probe(is_answer=is_answer, tag=TAGS[1], number=1, secret=secret))
            assert probe is not None
            assert side.receive(probe, "stranger", PathKind.DIRECT, now=world.now) == []
    assert "stranger" not in [path.route for path in side.paths()]


def test_an_answer_counts_once_and_on_its_own_way_only() -> None:
    world = World()
    world.introduce(RELAY, SECOND)
    side = world.sides[0]
    side.prove_relays(now=world.now)
    [first, _] = side.handle_timer(now=world.now)
    asked = parse_probe(first.data)
    assert asked is not None
    answer = parse_probe(make_probe(is_answer=True, tag=TAGS[1], number=asked.number, secret=side.secret))
    assert answer is not None
    assert side.receive(answer, SECOND, PathKind.RELAY, now=world.now + 0.1) == []
    assert side.active is None
    side.receive(answer, RELAY, PathKind.RELAY, now=world.now + 0.1)
    assert side.active is None, "it was used up"


@given(st.lists(st.integers(0, 1000), max_size=200))
def test_a_peer_cannot_make_us_remember_more_than_some_ways(numbers: list[int]) -> None:
    world = World()
    world.introduce(RELAY)
    side = world.sides[0]
    for number in numbers:
        data = make_probe(is_answer=False, tag=TAGS[1], number=number, secret=side.secret)
        probe = parse_probe(data)
        assert probe is not None
        side.receive(probe, f"address {number}", PathKind.PUNCHED, now=world.now)
    assert len(side.paths()) <= MAX_ROUTES
    assert RELAY in [path.route for path in side.paths()]


@given(
    st.lists(
        st.tuples(st.sampled_from([RELAY, SECOND, HOME, LAN]), st.booleans(), st.floats(0.1, 3.0)),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_is_cut_and_comes_back_packets_take_a_way_that_works_in_the_end(
    events: list[tuple[str, bool, float]],
) -> None:
    delays_s = {RELAY: 0.03, SECOND: 0.04, HOME: 0.01, LAN: 0.002}
    world = World(**delays_s)
    world.introduce(RELAY, SECOND)
    world.punch(HOME, LAN)
    for route, works, duration_s in events:
        if works:
            world.delays_s[route] = delays_s[route]
        else:
            world.delays_s.pop(route, None)
        world.run(duration_s, data=True)
    world.delays_s[RELAY] = delays_s[RELAY]
    world.run(GIVE_UP_S + 2.0, data=True)
    for side in world.sides:
        assert any(route in world.delays_s for route in side.routes())
