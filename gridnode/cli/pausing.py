"""Letting a node pause, go on, or stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import psutil

from gridnode.cli.showing import stderr
from gridnode.control.client import ControlClient
from gridnode.control.status_schema import PauseRequest
from gridnode.core.addresses import Address
from gridnode.errors import BadInput
from gridnode.units import format_seconds


async def pause_node(api: Address, duration_s: float | None) -> None:
    """Let the node behind `api` serve no blocks, and say until when.

    Raises:
        NotRunning: no node answers.
        GridError: the node answered with an error.
    """
    async with ControlClient(api) as client:
        status = await client.pause(PauseRequest(duration_s=duration_s))
    until = "until 'gridnode resume'" if duration_s is None else f"for {format_seconds(duration_s)}"
    moving = f"; {status.open_sessions} sessions move to other nodes first" if status.open_sessions else ""
    stderr().print(f"paused {until}{moving}", highlight=False)


async def resume_node(api: Address) -> None:
    """Let the node behind `api` serve its blocks again.

    Raises:
        NotRunning: no node answers.
        GridError: the node answered with an error.
    """
    async with ControlClient(api) as client:
        was_paused = (await client.status()).pause is not None
        await client.resume()
    stderr().print("serving again" if was_paused else "it was not paused", highlight=False)


async def stop_node(api: Address) -> None:
    """Stop the node behind `api`, which runs on this computer, and wait until it has ended.

    Raises:
        NotRunning: no node answers.
        BadInput: it runs elsewhere, or belongs to somebody else.
    """
    async with ControlClient(api) as client:
        status = await client.status()
    try:
        process = psutil.Process(status.pid)
        os.kill(status.pid, signal.SIGTERM)
    except (psutil.NoSuchProcess, ProcessLookupError) as exc:
        raise BadInput(f"the node at {api} does not run on this computer; stop it there") from exc
    except PermissionError as exc:
        raise BadInput(
            f"the node (pid {status.pid}) belongs to another user; is it a service? "
            "'systemctl stop gridnode' stops that"
        ) from exc
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(process.wait)
    stderr().print(f"the node (pid {status.pid}) has stopped", highlight=False)
