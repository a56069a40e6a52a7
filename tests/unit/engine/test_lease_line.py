import pytest

from gridnode.core.spans import Span
from gridnode.engine.lease_line import MAX_WAITING_LEASES, LeaseLine
from gridnode.engine.requests import OpenLease
from gridnode.errors import NoCapacity


class Room:
    """A clock and a number of free tokens, as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.free = 0
        self.line = LeaseLine(clock=lambda: self.now)

    def add(self, lease: int, max_tokens: int, wait_s: float) -> None:
        request = OpenLease(
            number=lease, lease=lease, span=Span(0, 1), batch=1, max_tokens=max_tokens, wait_s=wait_s
        )
        self.line.add(request, b"")

    def taken(self) -> list[int]:
        found = []
        while (waiting := self.line.take(lambda request: request.max_tokens <= self.free)) is not None:
            if waiting.request.max_tokens <= self.free:
                self.free -= waiting.request.max_tokens
            found.append(waiting.request.lease)
        return found


def test_leases_are_opened_in_the_order_in_which_they_came_and_none_overtakes() -> None:
    room = Room()
    room.add(1, 100, 9.0)
    room.add(2, 10, 9.0)
    room.free = 50
    assert room.taken() == []  # the second would fit
    room.free = 105
    assert room.taken() == [1]
    room.free += 5
    assert room.taken() == [2]
    assert not room.line


def test_whoever_has_waited_enough_is_taken_from_the_line() -> None:
    room = Room()
    room.add(1, 100, 9.0)
    room.add(2, 100, 2.0)
    room.add(3, 100, 5.0)
    assert room.line.next_deadline_s() == 2.0
    room.now = 2.0
    assert room.taken() == [2]
    assert room.line.next_deadline_s() == 3.0
    room.now = 20.0
    assert room.line.next_deadline_s() == 0.0
    assert room.taken() == [1, 3]
    assert room.line.next_deadline_s() is None


def test_whoever_left_is_passed_by() -> None:
    room = Room()
    room.add(1, 100, 9.0)
    room.add(2, 10, 9.0)
    room.line.drop(1)
    room.line.drop(7)
    room.free = 10
    assert room.taken() == [2]


def test_a_line_that_is_too_long_is_refused() -> None:
    room = Room()
    for lease in range(MAX_WAITING_LEASES):
        room.add(lease, 1, 1.0)
    with pytest.raises(NoCapacity, match=f"{MAX_WAITING_LEASES} sessions wait"):
        room.add(99, 1, 1.0)
