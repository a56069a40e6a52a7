"""`gridnode top`."""

from __future__ import annotations

from gridnode.cli.options import ApiOption
from gridnode.config import DEFAULT_API


def top(api: ApiOption = DEFAULT_API) -> None:
    """Watch the swarm in the terminal: nodes, blocks, routes. `s` sorts, `q` quits.

    [bold]Examples[/]

      gridnode top
      gridnode top --api 127.0.0.1:7347
    """
    import asyncio

    from gridnode.control.client import ControlClient
    from gridnode_dashboard.top_app import TopApp

    async def watch() -> None:
        async with ControlClient(api) as client:
            await TopApp(client).run_async()

    asyncio.run(watch())
