"""Running a relay in the foreground until somebody stops it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from dataclasses import asdict, replace
from pathlib import Path

from gridnode.cli.descriptors import raise_descriptor_limit
from gridnode.cli.showing import stderr
from gridnode.cli.state_lock import state_lock
from gridnode.control.relay_door import serve_relay_door
from gridnode.control.served_relay import describe_losses, describe_traffic
from gridnode.core.addresses import Address
from gridnode.core.ids import show_peer
from gridnode.core.relays import DEFAULT_RELAY_PORT
from gridnode.logs import LogLevel, LogPlan, apply_plan
from gridnode.net.identity import load_or_create_identity
from gridnode.net.interfaces import reachable_addresses
from gridnode.net.relay_counters import RelayCounters
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_service import RelayService
from gridnode.paths import state_dir as default_state_dir
from gridnode.units import format_bytes

# How often the counters are told.
TELL_INTERVAL_S = 60.0


def run_relay(
    listen: Address,
    state_dir: Path | None,
    limits: RelayLimits,
    *,
    metrics: Address | None,
    as_json: bool,
    log_level: LogLevel,
) -> None:
    """Run a relay until SIGINT or SIGTERM.

    Args:
        metrics: Where to answer `/metrics` and `/health`, if anywhere.

    Raises:
        GridError: the relay cannot start.
    """
    directory = state_dir or default_state_dir() / "relay"
    with state_lock(directory):
        apply_plan(LogPlan(level=log_level))
        raise_descriptor_limit()
        asyncio.run(_run(listen, directory, limits, metrics=metrics, as_json=as_json))


async def _run(
    listen: Address, directory: Path, limits: RelayLimits, *, metrics: Address | None, as_json: bool
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    identity = load_or_create_identity(directory)
    async with contextlib.AsyncExitStack() as door:
        counters = RelayCounters()
        told_at = await door.enter_async_context(serve_relay_door(counters, metrics)) if metrics else None
        relay = RelayService(identity, listen, limits, counters=counters)
        peer_id = show_peer(identity.peer_id)
        _say_hello(relay, peer_id, limits, told_at)
        if as_json:
            place = str(relay.address)
            _print_event("listening", listen=place, peer_id=peer_id, metrics=str(told_at or "") or None)
        await _serve_until(stop, relay, as_json=as_json)


async def _serve_until(stop: asyncio.Event, relay: RelayService, *, as_json: bool) -> None:
    counters = relay.server.counters
    serving = asyncio.create_task(relay.run(), name="relay")
    telling = asyncio.create_task(_tell(counters, as_json=as_json), name="tell")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (serving, telling, stopping):
            task.cancel()
        await asyncio.wait({serving, telling, stopping})
        if as_json:
            _print_event("counters", **asdict(counters))
        stderr().print(f"  stopped  {_summary(counters)}", markup=False, highlight=False)


def _say_hello(relay: RelayService, peer_id: str, limits: RelayLimits, told_at: Address | None) -> None:
    address = relay.address
    by_tcp = "UDP and TCP" if relay.has_tunnels else "UDP alone: another process holds the TCP port"
    port = "" if address.port == DEFAULT_RELAY_PORT else f":{address.port}"
    here = reachable_addresses(address)
    host = f"[{here[0].host}]" if here and ":" in here[0].host else here[0].host if here else "HOST"
    lines = [
        f"  relay    {address} by {by_tcp}",
        f"  id       {peer_id}",
        f"  gives    {format_bytes(limits.node_bytes_per_s)}/s to each of {limits.nodes} nodes, "
        f"{format_bytes(limits.total_bytes_per_s)}/s in all",
        f"  nodes    gridnode up --relay {host}{port}",
    ]
    if told_at is not None:
        lines.append(f"  figures  http://{told_at}/metrics")
    for line in lines:
        stderr().print(line, markup=False, highlight=False, soft_wrap=True)


async def _tell(counters: RelayCounters, *, as_json: bool) -> None:
    """Tell the counters now and then, if they have changed."""
    before = replace(counters)
    while True:
        await asyncio.sleep(TELL_INTERVAL_S)
        if counters == before:
            continue
        before = replace(counters)
        if as_json:
            _print_event("counters", **asdict(before))
        else:
            stderr().print(f"  now      {_summary(before)}", markup=False, highlight=False)


def _summary(counters: RelayCounters) -> str:
    losses = describe_losses(counters)
    return describe_traffic(counters) + (f"; {losses}" if losses else "")


def _print_event(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
