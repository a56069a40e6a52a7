"""A node without blocks that joins a swarm by relays, asks once, and says how long everything took.

`asking_node.py STATE_DIR SWARM PATIENCE_S [--guess-ports] RELAY...` prints one JSON object: `linked_s`,
`first_token_s` and `direct_s` since its port was open (null if it never came to that), `path` and
`first_path`,
and the tokens; those of a second answer at the end, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from gridnode.config import NodeConfig
from gridnode.control.answer_schema import Delta, GenerateRequest
from gridnode.core.addresses import Address
from gridnode.node.node import Node

DIRECT = ("lan", "direct", "punched")
LIMIT_S = 40.0


async def watch(node: Node, began_at: float, patience_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {"linked_s": None, "first_token_s": None, "direct_s": None, "tokens": []}

    def path() -> str:
        return next((peer.path for peer in node.status().peers if not peer.is_self), "none")

    async with asyncio.timeout(LIMIT_S):
        while path() == "none":
            await asyncio.sleep(0.005)
        found["linked_s"], found["first_path"] = time.monotonic() - began_at, path()
        asking = asyncio.create_task(ask(node, began_at, found))
        deadline = time.monotonic() + patience_s
        while path() not in DIRECT and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        if path() in DIRECT:
            found["direct_s"] = time.monotonic() - began_at
        await asking
        await ask(node, began_at, found)
        found["path"] = path()
    return found


async def ask(node: Node, began_at: float, found: dict[str, Any]) -> None:
    while not any(model.route for model in node.status().models):
        await asyncio.sleep(0.005)
    tokens: list[int] = []
    request = GenerateRequest(token_ids=(1, 2, 3), max_tokens=4, ignore_eos=True)
    async with contextlib.aclosing(node.generate(request)) as events:
        async for event in events:
            if isinstance(event, Delta):
                if found["first_token_s"] is None:
                    found["first_token_s"] = time.monotonic() - began_at
                tokens += event.token_ids
    found["tokens"].append(tokens)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("swarm")
    parser.add_argument("patience_s", type=float)
    parser.add_argument("relays", nargs="+")
    parser.add_argument("--guess-ports", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=os.environ.get("LEVEL", "WARNING"), format="%(relativeCreated)d %(name)s %(message)s"
    )
    config = NodeConfig(
        swarm=arguments.swarm,
        relay=tuple(arguments.relays),
        guess_ports=arguments.guess_ports,
        mdns=False,
        listen=Address("0.0.0.0", 0),
        state_dir=arguments.state_dir,
    )
    node = Node(config)
    listening = asyncio.Event()
    running = asyncio.create_task(node.run(on_listening=listening.set))
    await listening.wait()
    try:
        print(json.dumps(await watch(node, time.monotonic(), arguments.patience_s)))
    finally:
        running.cancel()
        await asyncio.wait([running])


if __name__ == "__main__":
    asyncio.run(main())
