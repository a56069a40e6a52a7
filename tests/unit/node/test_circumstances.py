"""What programs of the system say about the computer."""

from __future__ import annotations

import time
from collections import namedtuple

import psutil
import pytest

from gridnode.core.hours import parse_hours
from gridnode.core.politeness import Terms
from gridnode.node.circumstances import idle_by_ioreg, idle_by_logind, look, metered_by_networkmanager

EVERYTHING = Terms(hours=(parse_hours("0-24"),), idle_s=60.0, on_mains=True, below_celsius=90.0)
Sensor = namedtuple("Sensor", "label current high critical")
Battery = namedtuple("Battery", "percent secsleft power_plugged")


@pytest.mark.parametrize(
    ("text", "idle_s"),
    [
        ("IdleHint=yes\nIdleSinceHint=1790000000000000\n", 300.0),
        ("IdleHint=no\nIdleSinceHint=1790000000000000\n", 0.0),
        ("IdleHint=yes\nIdleSinceHint=1790000999000000\n", 0.0),
        ("IdleHint=yes\nIdleSinceHint=0\n", 1790000300.0),
        ("", None),
        ("Failed to connect to bus\n", None),
    ],
)
def test_the_hint_of_logind(text: str, idle_s: float | None) -> None:
    assert idle_by_logind(text, wall_s=1790000300.0) == idle_s


def test_the_idle_time_of_macos() -> None:
    text = '  | |   "HIDIdleTime" = 2500000000\n  | |   "HIDIdleTimeDelta" = 7\n'
    assert idle_by_ioreg(text) == 2.5
    assert idle_by_ioreg("") is None


@pytest.mark.parametrize(
    ("text", "is_metered"),
    [("u 0\n", False), ("u 1\n", True), ("u 2\n", False), ("u 3\n", True), ("u 4\n", False), ("", False)],
)
def test_networkmanager_knows_metered_networks(text: str, is_metered: bool) -> None:
    assert metered_by_networkmanager(text) is is_metered


@pytest.mark.parametrize(
    ("battery", "on_battery"),
    [
        (None, False),
        (Battery(50, 60, True), False),
        (Battery(50, 60, False), True),
        (Battery(50, 60, None), None),
    ],
)
def test_a_computer_without_a_battery_is_on_mains(
    battery: Battery | None, on_battery: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery)
    assert look(Terms(on_mains=True)).on_battery is on_battery


def test_the_hottest_processor_counts_and_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "coretemp": [Sensor("Core 0", 61.0, 90.0, 100.0), Sensor("Core 1", 64.0, 90.0, 100.0)],
        "nvme": [Sensor("Composite", 80.0, 90.0, 95.0)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: found, raising=False)
    assert look(Terms(below_celsius=90.0)).celsius == 64.0
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    assert look(Terms(below_celsius=90.0)).celsius is None
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert look(Terms(below_celsius=90.0)).celsius is None


def test_this_computer_can_be_looked_at_whatever_it_tells() -> None:
    seen = look(EVERYTHING)
    now = time.localtime()
    assert (now.tm_hour * 60 + now.tm_min - seen.minute) % (24 * 60) <= 1
    assert seen.idle_s is None or seen.idle_s >= 0
    unasked = look(Terms())
    assert (unasked.idle_s, unasked.on_battery, unasked.celsius) == (None, None, None)
