"""Running a node in the foreground until somebody stops it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

from rich.console import Console
from rich.status import Status

from gridnode.cli.descriptors import raise_descriptor_limit
from gridnode.cli.ending import INTERRUPTED
from gridnode.cli.first_key import make_first_key
from gridnode.cli.json_lines import json_console
from gridnode.cli.live_config import LiveConfig
from gridnode.cli.news import Doorstep, banner, news, spinner_text
from gridnode.cli.service_manager import ServiceManager
from gridnode.cli.showing import stderr
from gridnode.cli.state_lock import state_lock
from gridnode.config.layers import Layer
from gridnode.config.swarm_file import find_swarm
from gridnode.control.door_policy import policy_of
from gridnode.control.door_server import serve_door
from gridnode.control.keys import Scope
from gridnode.control.readiness import readiness
from gridnode.control.status_schema import NodeStatus
from gridnode.control.swarm_monitor import SwarmMonitor
from gridnode.core.addresses import Address, at_home, is_loopback
from gridnode.engine.model_use import using
from gridnode.errors import GridError
from gridnode.logs import LogFormat
from gridnode.net.interfaces import reachable_addresses
from gridnode.node.node import Node
from gridnode_web.pages import make_pages

LOOK_INTERVAL_S = 0.2


def serve(
    flags: Layer,
    *,
    as_json: bool,
    stop_with_stdin: bool,
    monitors: bool = False,
    is_public: bool = False,
) -> None:
    """Run a node until SIGINT or SIGTERM; a second signal ends the process at once.

    SIGHUP reads the configuration again. From a terminal that closes, it stops the node.

    Args:
        flags: What the command line says; files and environment say the rest.
        as_json: Say what happens as JSON lines on standard output too.
        stop_with_stdin: Stop when standard input ends, so that no node outlives who started it.
        monitors: Check whether all peers can be reached, and publish no addresses that they keep to
            themselves.
        is_public: Let everybody look at the swarm without a key.

    Raises:
        GridError: the node cannot start or go on.
    """
    config = LiveConfig(flags, is_terminal=stderr().is_terminal)
    console = json_console() if config.present.log_format is LogFormat.JSON else stderr()
    with state_lock(config.present.state_dir), using(config.present.model):
        config.start_logging()
        raise_descriptor_limit()
        config.warn_of_strange_variables()
        work = _serve(
            config,
            console,
            as_json=as_json,
            stop_with_stdin=stop_with_stdin,
            monitors=monitors,
            is_public=is_public,
        )
        asyncio.run(work)


async def _serve(
    config: LiveConfig,
    console: Console,
    *,
    as_json: bool,
    stop_with_stdin: bool,
    monitors: bool,
    is_public: bool,
) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    node = Node(config.present, find_swarm(config.present, os.environ))
    if not config.is_terminal:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, config.reload, node)
    listening = asyncio.Event()
    async with _until_left(stop_with_stdin, stop), contextlib.AsyncExitStack() as door:
        # The door's port is taken before anything starts that would have to be stopped again.
        policy = policy_of(node.config)
        if is_public:
            policy = replace(policy, public_scopes=frozenset({Scope.MONITOR}))
        monitor = SwarmMonitor(node) if monitors else None
        control = monitor or node
        api = await door.enter_async_context(
            serve_door(control, node.config.api, pages=make_pages(control), policy=policy)
        )
        first_key = make_first_key(policy, api)
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(node.run(on_listening=listening.set), name="node")
                telling = group.create_task(
                    _tell(node, api, listening, console, first_key=first_key, as_json=as_json), name="tell"
                )
                watching = group.create_task(monitor.watch(), name="watch") if monitor else None
                service = ServiceManager(node.status)
                reporting = group.create_task(service.run(), name="service-manager")
                stopping = group.create_task(stop.wait(), name="stop")
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                telling.cancel()
                await asyncio.wait({telling})
                if watching is not None:
                    watching.cancel()
                service.stopping()
                await _leave(node, console, running)
                await door.aclose()  # tells who still reads an answer
                running.cancel()
                reporting.cancel()
                stopping.cancel()
        except* GridError as errors:
            raise errors.exceptions[0] from None


async def _leave(node: Node, console: Console, running: asyncio.Task[None]) -> None:
    """Let what runs through this node move or end; longer than the configured time nobody waits."""
    status = node.status()
    waiting = f", when {status.open_sessions} sessions have moved" if status.open_sessions else ""
    console.print(f"  leaving  the swarm{waiting}; once more to stop at once")
    leaving = asyncio.create_task(node.leave(node.config.drain_s), name="leave")  # awaited here
    await asyncio.wait({leaving, running}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    await asyncio.wait({leaving})


def _stop_on_signals(stop: asyncio.Event) -> None:
    def on_signal() -> None:
        if stop.is_set():
            # The worker ends with the socket to this process.
            os._exit(INTERRUPTED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


@contextlib.asynccontextmanager
async def _until_left(enabled: bool, stop: asyncio.Event) -> AsyncIterator[None]:
    """Set `stop` when standard input ends."""
    if not enabled:
        yield
        return
    loop = asyncio.get_running_loop()

    def on_input() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin)
            stop.set()

    loop.add_reader(sys.stdin, on_input)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin)


async def _tell(
    node: Node,
    api: Address,
    listening: asyncio.Event,
    console: Console,
    *,
    first_key: str,
    as_json: bool,
) -> None:
    """Tell people, and programs if they asked, what the node does. Works until cancelled."""
    await listening.wait()
    doorstep = Doorstep(
        api=at_home(api),
        api_elsewhere=() if is_loopback(api) else reachable_addresses(api),
        home_needs_key=node.config.api_require_key,
        first_key=first_key,
        reachable=reachable_addresses(node.address),
        model=node.config.model,
    )
    status = node.status()
    _print_lines(console, banner(status, doorstep))
    if as_json:
        _print_event(
            "listening", api=str(doorstep.api), listen=status.listen, peer_id=status.peer_id, pid=status.pid
        )
        if first_key:
            _print_event("key", key=first_key)
    before: NodeStatus | None = None
    was_ready: bool | None = None
    with console.status("") as spinner:
        while True:
            status = node.status()
            _spin(spinner, console, spinner_text(status))
            _print_lines(console, news(before, status, doorstep))
            found = readiness(status)
            if as_json and found.ready is not was_ready:
                _print_event("ready" if found.ready else "not_ready", reason=found.reason)
            before, was_ready = status, found.ready
            await asyncio.sleep(LOOK_INTERVAL_S)


def _spin(spinner: Status, console: Console, text: str) -> None:
    """Show `text` beside a spinner on a terminal; without text, none."""
    if text and console.is_terminal:
        spinner.update(text)
        spinner.start()
    else:
        spinner.stop()


def _print_lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        # Not as markup: names of strangers are in it.
        console.print(line, markup=False, soft_wrap=True)


def _print_event(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
