"""Counting requests, answers and wrong keys, with a clock of the test's own."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.doorkeeper import (
    MAX_LISTENERS,
    MAX_LISTENERS_PER_ADDRESS,
    MAX_VISITOR_REQUESTS_PER_MINUTE,
    MAX_WRONG_KEYS_PER_MINUTE,
    Doorkeeper,
    WrongScope,
)
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.errors import ErrorCode, KeyRefused, NoCapacity, RateLimited


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A doorkeeper with its keys and its clock."""

    def __init__(self, directory: Path) -> None:
        self.keys = KeyFile(directory)
        self.clock = Clock()
        self.doorkeeper = Doorkeeper(DoorPolicy(keys=self.keys), clock=self.clock)

    def open_to_visitors(self) -> None:
        policy = DoorPolicy(keys=self.keys, public_scopes=frozenset({Scope.MONITOR}))
        self.doorkeeper = Doorkeeper(policy, clock=self.clock)

    def admit(self, secret: str, scope: Scope = Scope.CHAT, *, address: str = "192.0.2.9") -> None:
        self.doorkeeper.admit(secret, scope, address=address)

    def refused(self, secret: str, *, address: str = "192.0.2.9") -> type[Exception]:
        with pytest.raises((KeyRefused, RateLimited)) as caught:
            self.admit(secret, address=address)
        return type(caught.value)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_key_may_ask_again_when_told(house: House) -> None:
    _, secret = house.keys.create("laptop", scopes=(Scope.CHAT,), requests_per_minute=30)
    for _ in range(30):
        house.admit(secret)
    with pytest.raises(
        RateLimited, match=r"\(laptop\) may make 30 requests per minute; .* in 2\.0 s"
    ) as caught:
        house.admit(secret)
    assert (caught.value.limit, caught.value.retry_after_s) == (30, 2.0)
    house.clock.now += 1.9
    assert house.refused(secret) is RateLimited
    house.clock.now += 0.1
    house.admit(secret)


def test_requests_with_the_wrong_scope_count_too(house: House) -> None:
    _, secret = house.keys.create("laptop", scopes=(Scope.CHAT,), requests_per_minute=1)
    with pytest.raises(WrongScope, match="is for chat, and this needs admin"):
        house.admit(secret, Scope.ADMIN)
    assert house.refused(secret) is RateLimited


def test_wrong_keys_are_counted_by_address(house: House) -> None:
    kinds = [house.refused(f"gn-{number}") for number in range(MAX_WRONG_KEYS_PER_MINUTE + 2)]
    assert kinds == [KeyRefused] * MAX_WRONG_KEYS_PER_MINUTE + [RateLimited] * 2
    assert house.refused("gn-x", address="192.0.2.10") is KeyRefused
    house.clock.now += 60 / MAX_WRONG_KEYS_PER_MINUTE
    assert house.refused("gn-x") is KeyRefused
    assert house.refused("gn-x") is RateLimited


def test_an_ipv6_network_is_one_address(house: House) -> None:
    for number in range(MAX_WRONG_KEYS_PER_MINUTE):
        house.refused("gn-x", address=f"2001:db8::{number:x}")
    assert house.refused("gn-x", address="2001:db8::ffff:1") is RateLimited
    assert house.refused("gn-x", address="2001:db8:0:1::1") is KeyRefused


def test_wrong_keys_of_neighbours_do_not_shut_out_a_right_one(house: House) -> None:
    _, secret = house.keys.create("laptop", scopes=(Scope.CHAT,))
    for _ in range(MAX_WRONG_KEYS_PER_MINUTE + 1):
        house.refused("gn-x")
    house.admit(secret)


def test_who_shows_no_key_tries_none(house: House) -> None:
    for _ in range(MAX_WRONG_KEYS_PER_MINUTE + 1):
        assert house.refused("") is KeyRefused


def test_the_log_names_the_address_and_never_the_key(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("gridnode"), "propagate", True)
    with caplog.at_level(logging.DEBUG):
        for _ in range(10 * MAX_WRONG_KEYS_PER_MINUTE):
            house.refused("gn-almost-right")
    told = [record for record in caplog.records if record.name.startswith("gridnode.")]
    assert len(told) == MAX_WRONG_KEYS_PER_MINUTE
    assert "192.0.2.9" in caplog.text
    assert "almost" not in caplog.text


def test_visitors_are_counted_by_address_and_those_with_keys_are_not(house: House) -> None:
    house.open_to_visitors()
    _, secret = house.keys.create("laptop", scopes=(Scope.MONITOR,))
    for _ in range(MAX_VISITOR_REQUESTS_PER_MINUTE):
        house.admit("", Scope.MONITOR)
    with pytest.raises(
        RateLimited, match=r"visitors from 192\.0\.2\.9 may make 600 .* --api-proxy"
    ) as caught:
        house.admit("", Scope.MONITOR)
    assert 0 < caught.value.retry_after_s <= 60 / MAX_VISITOR_REQUESTS_PER_MINUTE
    house.admit(secret, Scope.MONITOR)
    house.admit("", Scope.MONITOR, address="192.0.2.10")
    house.clock.now += caught.value.retry_after_s
    house.admit("", Scope.MONITOR)


def test_visitors_listen_to_few_streams_of_one_address_and_of_all(house: House) -> None:
    listening = house.doorkeeper.listening
    with contextlib.ExitStack() as stack:
        for number in range(MAX_LISTENERS_PER_ADDRESS):
            stack.enter_context(listening(f"2001:db8::{number:x}"))
        with pytest.raises(RateLimited, match="16 streams at once"):
            stack.enter_context(listening("2001:db8::ffff"))
        for number in range(MAX_LISTENERS - MAX_LISTENERS_PER_ADDRESS):
            stack.enter_context(listening(f"192.0.2.{number}"))
        with pytest.raises(NoCapacity, match="128 visitors listen") as caught:
            stack.enter_context(listening("198.51.100.1"))
        assert caught.value.code is ErrorCode.NO_CAPACITY
    with listening("198.51.100.1"), listening("2001:db8::ffff"):
        pass


def test_answers_are_counted_by_key_and_given_back(house: House) -> None:
    one, _ = house.keys.create("one", scopes=(Scope.CHAT,), max_answers=1)
    two, _ = house.keys.create("two", scopes=(Scope.CHAT,), max_answers=1)
    answering = house.doorkeeper.answering
    for _ in range(3):
        with answering(one), answering(two), answering(None), answering(None):
            with pytest.raises(RateLimited, match=r"\(one\) may have 1 answers at once") as caught:
                answering(one).__enter__()
            assert caught.value.retry_after_s > 0
