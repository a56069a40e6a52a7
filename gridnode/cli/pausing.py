"""Letting a node pause, go on, or stop."""

from __future__ import annotations

import asyncio
import contextlib

import psutil

from gridnode.cli.json_records import Resting, Stopped
from gridnode.cli.showing import print_json, stderr
from gridnode.control.client import ControlClient
from gridnode.control.readiness import describe_pause
from gridnode.control.status_schema import NodeStatus, PauseRequest
from gridnode.core.addresses import Address, is_loopback
from gridnode.errors import BadInput
from gridnode.units import format_seconds

_LOOK_AGAIN_S = 0.05


async def pause_node(api: Address, duration_s: float | None, *, as_json: bool) -> None:
    """Let the node behind `api` serve no blocks, and say until when.

    Raises:
        NotRunning: no node answers.
        GridError: the node answered with an error.
    """
    async with ControlClient(api) as client:
        status = await client.pause(PauseRequest(duration_s=duration_s))
    if as_json:
        print_json(_resting(status))
        return
    until = "until 'gridnode resume'" if duration_s is None else f"for {format_seconds(duration_s)}"
    moving = f"; {status.open_sessions} sessions move to other nodes first" if status.open_sessions else ""
    stderr().print(f"paused {until}{moving}", highlight=False)


async def resume_node(api: Address, *, as_json: bool) -> None:
    """Let the node behind `api` serve its blocks again.

    Raises:
        NotRunning: no node answers.
        GridError: the node answered with an error.
    """
    async with ControlClient(api) as client:
        was_paused = (await client.status()).pause is not None
        status = await client.resume()
    if as_json:
        print_json(_resting(status))
    else:
        told = "serving again" if was_paused else "it was not paused"
        if status.pause is not None:
            told = f"{describe_pause(status.pause)}; 'gridnode config show' tells [when] it serves"
        stderr().print(told, highlight=False, markup=False)


async def stop_node(api: Address, *, as_json: bool) -> None:
    """Stop the node behind `api`, which runs on this computer, and wait until it has ended.

    Raises:
        NotRunning: no node answers.
        BadInput: it runs elsewhere, or belongs to somebody else.
    """
    async with ControlClient(api) as client:
        pid = (await client.status()).pid
        process = find_process(client.address, pid)
    try:
        process.terminate()
    except psutil.AccessDenied as exc:
        raise _of_somebody_else(pid) from exc
    # Not `process.wait`: a process whose parent never asks for its exit status stays as a zombie.
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_S)
    if as_json:
        print_json(Stopped(pid=pid))
    else:
        stderr().print(f"the node (pid {pid}) has stopped", highlight=False)


def find_process(door: Address, pid: int) -> psutil.Process:
    """Return the process `pid`, if it is the one that listens at `door`.

    A door may be a tunnel, or lead into a container: there the number belongs to another process than here.

    Raises:
        BadInput: it is another one, or belongs to somebody else.
    """
    elsewhere = BadInput(f"the node at {door} does not run on this computer; stop it where it runs")
    if not is_loopback(door):
        raise elsewhere
    try:
        process = psutil.Process(pid)
        listens_at = {
            link.laddr.port
            for link in process.net_connections(kind="tcp")
            if link.status == psutil.CONN_LISTEN
        }
    except psutil.NoSuchProcess as exc:
        raise elsewhere from exc
    except psutil.AccessDenied as exc:
        raise _of_somebody_else(pid) from exc
    if door.port not in listens_at:
        raise elsewhere
    return process


def _of_somebody_else(pid: int) -> BadInput:
    return BadInput(
        f"the node (pid {pid}) belongs to another user; is it a service? 'systemctl stop gridnode' stops that"
    )


def _resting(status: NodeStatus) -> Resting:
    return Resting(
        paused=status.pause is not None,
        remaining_s=status.pause.remaining_s if status.pause else None,
        open_sessions=status.open_sessions,
    )
