"""When a node has to pause: circumstances and a time in, a reason out."""

from __future__ import annotations

from typing import Any

import pytest

from gridnode.core.hours import parse_hours
from gridnode.core.politeness import CALM_S, Circumstances, Politeness, Terms, objection

NIGHT = Terms(hours=(parse_hours("22:00-07:00"), parse_hours("12-13")))
NOON = 12 * 60


def seen(**facts: Any) -> Circumstances:
    return Circumstances(**{"minute": NOON, **facts})


@pytest.mark.parametrize(
    ("terms", "facts", "reason"),
    [
        (NIGHT, {"minute": 14 * 60}, "outside its hours, 22:00-07:00, 12:00-13:00"),
        (NIGHT, {"minute": 23 * 60}, ""),
        (NIGHT, {"minute": NOON}, ""),
        (Terms(on_mains=True), {"on_battery": True}, "on battery"),
        (Terms(on_mains=True), {"on_battery": False}, ""),
        (Terms(idle_s=600), {"idle_s": 599.0}, "in use, or was within 10 min"),
        (Terms(idle_s=600), {"idle_s": 600.0}, ""),
        (Terms(below_celsius=85), {"celsius": 85.0}, "hotter than 85 °C"),
        (Terms(below_celsius=85), {"celsius": 84.9}, ""),
        (Terms(), {"on_battery": True, "idle_s": 0.0, "celsius": 120.0}, ""),
        (Terms(on_mains=True, idle_s=600, below_celsius=85), {}, ""),
    ],
)
def test_each_term_objects_to_what_it_is_about(terms: Terms, facts: dict[str, Any], reason: str) -> None:
    assert objection(terms, seen(**facts)) == reason
    assert Politeness(terms).reason_to_pause(seen(**facts), now=1000.0) == reason


def test_a_reason_that_has_passed_counts_a_while_longer() -> None:
    polite = Politeness(Terms(on_mains=True))
    assert polite.reason_to_pause(seen(on_battery=True), now=1000.0)
    assert polite.reason_to_pause(seen(on_battery=False), now=1000.0 + CALM_S - 1) == "on battery"
    assert polite.reason_to_pause(seen(on_battery=True), now=1000.0 + CALM_S)
    assert polite.reason_to_pause(seen(on_battery=False), now=1000.0 + 2 * CALM_S - 1)
    assert not polite.reason_to_pause(seen(on_battery=False), now=1000.0 + 2 * CALM_S)


def test_a_hot_computer_cools_down_before_it_serves_again() -> None:
    polite = Politeness(Terms(below_celsius=85))
    assert polite.reason_to_pause(seen(celsius=85.0), now=0.0)
    assert polite.reason_to_pause(seen(celsius=76.0), now=1000.0)
    assert not polite.reason_to_pause(seen(celsius=74.0), now=1000.0 + CALM_S)
    assert not polite.reason_to_pause(seen(celsius=84.0), now=2000.0)


def test_what_cannot_be_known_is_told_if_somebody_asks_for_it() -> None:
    terms = Terms(idle_s=600, on_mains=True, below_celsius=85)
    assert seen().unknown(terms) == ["when.idle", "when.on_mains", "when.below_celsius"]
    assert not seen(idle_s=0.0, on_battery=False, celsius=50.0).unknown(terms)
    assert not seen().unknown(NIGHT)
