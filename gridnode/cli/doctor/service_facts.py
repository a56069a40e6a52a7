"""Asking systemd about the units of gridnode."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from gridnode.cli.doctor.service import ServiceFacts, Unit
from gridnode.cli.services import Service
from gridnode.units import parse_seconds

_PROPERTIES = "LoadState,ActiveState,SubState,Result,UnitFileState,WatchdogUSec,NRestarts"
_ASK_TIMEOUT_S = 5.0


def ask_systemd() -> ServiceFacts:
    """Return what systemd says of the service of the computer and of the one of this user."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").exists():
        return ServiceFacts(has_systemd=False)
    scopes = (False, True) if os.environ.get("XDG_RUNTIME_DIR") else (False,)
    units = (_ask(systemctl, is_user=is_user) for is_user in scopes)
    return ServiceFacts(has_systemd=True, units=tuple(unit for unit in units if unit is not None))


def _ask(systemctl: str, *, is_user: bool) -> Unit | None:
    command = [
        systemctl,
        *(["--user"] if is_user else []),
        "show",
        Service.NODE.unit,
        f"--property={_PROPERTIES}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else read_unit(done.stdout, is_user=is_user)


def read_unit(text: str, *, is_user: bool) -> Unit:
    """Return the unit that `systemctl show` describes. Pure."""
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    restarts = said.get("NRestarts", "")
    return Unit(
        is_user=is_user,
        load_state=said.get("LoadState", ""),
        active_state=said.get("ActiveState", ""),
        sub_state=said.get("SubState", ""),
        result=said.get("Result", "success"),
        file_state=said.get("UnitFileState", ""),
        watchdog_s=_seconds(said.get("WatchdogUSec", "")),
        restarts=int(restarts) if restarts.isdigit() else 0,
    )


def _seconds(text: str) -> float:
    """Return a time span of systemd: `1min 30s`, `0`, `infinity`."""
    try:
        return parse_seconds(re.sub(r"min\b", "m", text))
    except ValueError:
        return 0.0
