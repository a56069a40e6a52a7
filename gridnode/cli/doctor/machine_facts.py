"""Measuring the computer."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote

import psutil
from huggingface_hub import constants

from gridnode.cli.doctor.machine import STATE_DIR_BYTES, Disk, MachineFacts, StateDir
from gridnode.cli.state_lock import StateDirHeld, state_lock
from gridnode.config import NodeConfig
from gridnode.engine.block_cache import blocks_dir
from gridnode.engine.hub_download import FREE_DISK_RESERVE_BYTES, free_disk_bytes
from gridnode.errors import BadInput
from gridnode.net.identity import IDENTITY_FILE, load_or_create_identity
from gridnode.node.balancer import memory_budget_bytes
from gridnode.node.circumstances import look

# What computes, and is imported by the engine worker alone.
_PACKAGES = ("torch", "transformers", "onnxruntime")
# timedatectl asks a service over D-Bus; one that hangs says nothing of the clock.
_ASK_TIMEOUT_S = 5.0


def measure_machine(
    config: NodeConfig,
    *,
    config_problem: str,
    state_dir: StateDir,
    running_pid: int | None,
    span_bytes: int,
    fetch_bytes: int,
    clock_offsets_s: tuple[float, ...],
) -> MachineFacts:
    """Return the facts of this computer.

    Args:
        span_bytes: What the block cache may grow by.
        fetch_bytes: What has to be fetched from the Hub.
    """
    memory = psutil.virtual_memory()
    disks = (
        _disk(
            "state disk", config.state_dir, STATE_DIR_BYTES, mend=f"du -sh {quote(str(config.state_dir))}/*"
        ),
        _disk("cache disk", blocks_dir(), span_bytes, mend="gridnode list"),
        replace(
            _disk("model disk", Path(constants.HF_HUB_CACHE), fetch_bytes, mend="gridnode list"),
            reserve_bytes=FREE_DISK_RESERVE_BYTES,
        ),
    )
    return MachineFacts(
        config_problem=config_problem,
        python=platform.python_version(),
        packages={name: _version(name) for name in _PACKAGES},
        cores=os.cpu_count() or 1,
        threads=config.threads,
        total_memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        budget_bytes=memory_budget_bytes(config),
        disks=disks,
        state_dir=state_dir,
        running_pid=running_pid,
        clock_offsets_s=clock_offsets_s,
        is_clock_synchronized=_is_clock_synchronized(),
        platform=sys.platform,
        terms=config.terms,
        circumstances=look(config.terms) if config.terms else None,
    )


def _disk(check: str, path: Path, wanted_bytes: int, *, mend: str) -> Disk:
    free_bytes = free_disk_bytes(path.absolute())
    return Disk(check=check, path=path, free_bytes=free_bytes, wanted_bytes=wanted_bytes, mend=mend)


def look_at_state_dir(path: Path) -> StateDir:
    """Take the lock that a node takes, for a moment."""
    try:
        with state_lock(path):
            pass
    except StateDirHeld as exc:
        return StateDir(path=path, problem=str(exc), holder_pid=exc.holder_pid)
    except (BadInput, OSError) as exc:
        return StateDir(path=path, problem=str(exc))
    try:
        if (path / IDENTITY_FILE).exists():
            load_or_create_identity(path)
    except (BadInput, OSError) as exc:
        return StateDir(path=path, identity_problem=str(exc))
    return StateDir(path=path)


def _version(name: str) -> str:
    """Return the version of a library without importing it; empty if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _is_clock_synchronized() -> bool | None:
    timedatectl = shutil.which("timedatectl")
    if timedatectl is None:
        return None
    try:
        done = subprocess.run(
            [timedatectl, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())
