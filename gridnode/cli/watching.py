"""Showing a node's status, once or again and again."""

from __future__ import annotations

import asyncio

from rich.console import RenderableType
from rich.live import Live

from gridnode.cli.showing import print_json, stdout
from gridnode.cli.status_tables import status_view
from gridnode.control.client import ControlClient
from gridnode.control.schema import NodeStatus
from gridnode.core.addresses import Address

WATCH_INTERVAL_S = 1.0


async def show_status(api: Address, *, as_json: bool) -> None:
    """Print the status of the node at `api`.

    Raises:
        NotRunning: no node answers.
    """
    async with ControlClient(api) as client:
        _print(await client.status(), as_json=as_json)


async def follow_status(api: Address, *, as_json: bool) -> None:
    """Show the status of the node at `api` every second, until cancelled.

    Raises:
        NotRunning: no node answers (any more).
    """
    async with ControlClient(api) as client:
        if as_json or not stdout().is_terminal:
            while True:
                _print(await client.status(), as_json=as_json)
                await asyncio.sleep(WATCH_INTERVAL_S)
        found: RenderableType = status_view(await client.status())
        with Live(found, console=stdout(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                live.update(status_view(await client.status()), refresh=True)


def _print(status: NodeStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(status)
    else:
        stdout().print(status_view(status), soft_wrap=True)
