"""Showing a node's status, once or again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.console import RenderableType
from rich.live import Live

from gridnode.cli.showing import print_json, stdout
from gridnode.cli.status_tables import status_view
from gridnode.control.client import ControlClient
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import Address

WATCH_INTERVAL_S = 1.0


async def show_status(
    api: Address,
    *,
    as_json: bool,
    view: Callable[[NodeStatus], RenderableType] = status_view,
    record: Callable[[NodeStatus], object] = lambda status: status,
) -> None:
    """Print the status of the node at `api`, or a part of it.

    Args:
        view: Makes what people see of it.
        record: Makes what programs get of it.

    Raises:
        NotRunning: no node answers.
    """
    async with ControlClient(api) as client:
        status = await client.status()
    if as_json:
        print_json(record(status))
    else:
        stdout().print(view(status), soft_wrap=True)


async def follow_status(api: Address, *, as_json: bool) -> None:
    """Show the status of the node at `api` every second, until cancelled.

    Raises:
        NotRunning: no node answers (any more).
    """
    async with ControlClient(api) as client:
        if as_json or not stdout().is_terminal:
            while True:
                status = await client.status()
                if as_json:
                    print_json(status)
                else:
                    stdout().print(status_view(status), soft_wrap=True)
                await asyncio.sleep(WATCH_INTERVAL_S)
        found: RenderableType = status_view(await client.status())
        with Live(found, console=stdout(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                live.update(status_view(await client.status()), refresh=True)
