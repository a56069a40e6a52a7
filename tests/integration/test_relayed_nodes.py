"""Whole nodes that meet at relays, and are relays, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from nodes import LOOPBACK, START_TIMEOUT_S, ask
from relay_clients import relaying, run
from rich.console import Console
from waiting import until

from gridnode.cli.status_tables import status_view
from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.node.node import Node


@contextlib.asynccontextmanager
async def running(*configs: NodeConfig) -> AsyncIterator[list[Node]]:
    nodes, tasks = [], []
    for config in configs:
        listening = asyncio.Event()
        node = Node(config)
        tasks.append(asyncio.create_task(node.run(on_listening=listening.set)))
        await listening.wait()
        nodes.append(node)
    try:
        yield nodes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_nodes_that_know_only_a_relay_form_a_swarm_answer_and_find_the_direct_way(
    tiny_llama: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with relaying() as (server, address):
            configs = [
                NodeConfig(
                    model=str(tiny_llama),
                    blocks=span,
                    quantization=QuantFormat.NONE,
                    dtype="float32",
                    threads=1,
                    cache_tokens=2048,
                    listen=LOOPBACK,
                    mdns=False,
                    relay=(str(address),),
                    state_dir=tmp_path / f"{span.start}",
                )
                for span in (Span(0, 2), Span(2, 4))
            ]
            async with running(*configs) as nodes:
                await until(
                    lambda: all(
                        sum(peer.state == "online" for peer in node.status().peers) == 2 for node in nodes
                    ),
                    timeout_s=START_TIMEOUT_S,
                )
                assert server.counters.packets
                answer = await ask(nodes[0], [1, 2, 3], max_tokens=4)
                assert len(answer.token_ids) == 4
                await until(
                    lambda: all(
                        {peer.path for peer in node.status().peers} == {"self", "direct"} for node in nodes
                    )
                )

    run(main, 2 * START_TIMEOUT_S)


def quiet_node(directory: Path, relays: Sequence[Address]) -> NodeConfig:
    """Return a node without blocks that finds others by relays alone."""
    return NodeConfig(
        listen=LOOPBACK,
        mdns=False,
        relay=tuple(map(str, relays)),
        state_dir=directory,
        public_name=directory.name,
    )


def test_a_swarm_meets_at_the_nearest_relays_replaces_those_that_die_and_outlives_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            relays = {}
            for _ in range(5):
                one = contextlib.AsyncExitStack()
                stack.push_async_exit(one)
                server, address = await one.enter_async_context(relaying())
                relays[address] = (server, one)
            addresses = list(relays)
            configs = [
                quiet_node(tmp_path / "ada", addresses),
                quiet_node(tmp_path / "bo", addresses[::-1]),
                quiet_node(tmp_path / "cy", addresses[2:] + addresses[:2]),
            ]
            nodes = await stack.enter_async_context(running(*configs))

            def homes(node: Node) -> set[Address]:
                return {
                    relay.place for peer in node.swarm.peers.values() for relay in peer.announcement.relays
                }

            def used() -> list[Address]:
                return [address for address, (server, _) in relays.items() if server.counters.nodes]

            def is_complete(node: Node) -> bool:
                return sum(peer.path != "none" for peer in node.status().peers) == len(nodes)

            await until(lambda: all(map(is_complete, nodes)))
            await until(lambda: [each[0].counters.nodes for each in relays.values()].count(3) == 3)
            assert len(used()) == 3, "all nodes chose the same three of five"
            await until(lambda: all(len(homes(node)) >= 2 and homes(node) <= set(used()) for node in nodes))
            first = used()[0]
            await relays.pop(first)[1].aclose()
            await until(lambda: len(used()) == 3 and all(first not in homes(node) for node in nodes))
            for _, one in relays.values():
                await one.aclose()
            await until(lambda: all(not homes(node) for node in nodes))
            nodes[0].reconfigure(replace(nodes[0].config, public_name="ida"))
            await until(lambda: all("ida" in {peer.public_name for peer in n.status().peers} for n in nodes))
            assert all(map(is_complete, nodes))

    run(main)


def test_a_node_says_how_its_relays_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying() as (_, address):
            config = replace(quiet_node(tmp_path, [address]), relay=(str(address), "nowhere.invalid"))
            async with running(config) as [node]:
                await until(lambda: {each.path for each in node.status().relays} == {"relay", "none"})
                await until(lambda: any(each.observed for each in node.status().relays))
                await until(lambda: any("leads nowhere" in each.problem for each in node.status().relays))
                shown = io.StringIO()
                Console(file=shown, width=200).print(status_view(node.status()))
                assert f"relay {address}:" in shown.getvalue()
                assert f"sees this node at {node.address}" in shown.getvalue()
                assert "nowhere.invalid:7339: the name nowhere.invalid leads nowhere" in shown.getvalue()

    run(main)


def test_a_node_is_a_relay_for_others_beside_its_work(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            place = Address("127.0.0.1", taken.getsockname()[1])
        configs = [quiet_node(tmp_path / name, [place]) for name in ("ada", "bo")]
        configs[0] = replace(configs[0], serve_relay=place)
        async with running(*configs) as nodes:
            await until(lambda: all(len(node.status().peers) == 2 for node in nodes))
            assert {relay.path for node in nodes for relay in node.status().relays} == {"relay"}
            served, none = (node.status().served_relay for node in nodes)
            assert none is None
            assert served is not None
            assert (served.listen, served.counters.udp_nodes) == (str(place), 2)
            assert served.counters.udp_packets, "they met through it"

    run(main)
