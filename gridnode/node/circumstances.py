"""Looking at how the computer is: who uses it, what powers it, how hot it is, and its network."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any

import psutil

from gridnode.core.politeness import Circumstances, Terms

# Programs of the system that ask a service; one that hangs says nothing.
_ASK_TIMEOUT_S = 5.0
# Sensors of processors; those of disks and batteries have limits of their own.
_PROCESSOR = re.compile(r"coretemp|k10temp|zenpower|cpu|core|soc|gpu", re.IGNORECASE)


def look(terms: Terms) -> Circumstances:
    """Return what `terms` ask for. May take a second; call it in a thread."""
    now = time.localtime()
    return Circumstances(
        minute=now.tm_hour * 60 + now.tm_min,
        idle_s=_idle_s() if terms.idle_s is not None else None,
        on_battery=_on_battery() if terms.on_mains else None,
        celsius=_celsius() if terms.below_celsius is not None else None,
    )


def is_metered() -> bool:
    """Return whether the network may cost by the byte, as far as NetworkManager knows. May take a second."""
    bus, path = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
    return metered_by_networkmanager(_output("busctl", "get-property", bus, path, bus, "Metered"))


def metered_by_networkmanager(text: str) -> bool:
    """Return whether a property of the type NMMetered says yes (1) or probably (3), as of phones. Pure."""
    return text.split() in (["u", "1"], ["u", "3"])


def _on_battery() -> bool | None:
    battery = _sensors("battery")
    if battery is None:
        return False  # nothing but mains
    return None if battery.power_plugged is None else not battery.power_plugged


def _celsius() -> float | None:
    chips = _sensors("temperatures") or {}
    return max(
        (one.current for chip, ones in chips.items() if _PROCESSOR.search(chip) for one in ones), default=None
    )


def _sensors(kind: str) -> Any:
    """Return what psutil reads; None where it cannot: macOS tells temperatures to nobody but root."""
    read = getattr(psutil, f"sensors_{kind}", None)
    return read() if read else None


def _idle_s() -> float | None:
    if sys.platform == "darwin":
        return idle_by_ioreg(_output("ioreg", "-c", "IOHIDSystem", "-d", "4"))
    properties = ("--property=IdleHint", "--property=IdleSinceHint")
    return idle_by_logind(_output("loginctl", "show-session", *properties), wall_s=time.time())


def idle_by_logind(text: str, *, wall_s: float) -> float | None:
    """Return the seconds since somebody used this computer, by the hint of all its sessions. Pure.

    A desktop gives its hint after some minutes; a terminal counts as used for half an hour after the
    last key (`IdleActionSec`). Nobody logged in is idle since 1970.
    """
    found = dict(line.partition("=")[::2] for line in text.splitlines())
    if found.get("IdleHint") == "no":
        return 0.0
    since_us = found.get("IdleSinceHint", "")
    if found.get("IdleHint") != "yes" or not since_us.isdigit():
        return None
    return max(0.0, wall_s - int(since_us) / 1e6)


def idle_by_ioreg(text: str) -> float | None:
    """Return the seconds since the last key or movement, as macOS counts them in nanoseconds. Pure."""
    found = re.search(r'"HIDIdleTime" = (\d+)', text)
    return int(found[1]) / 1e9 if found else None


def _output(*command: str) -> str:
    """Return what a program of the system says; nothing if it is not here or does not work."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
