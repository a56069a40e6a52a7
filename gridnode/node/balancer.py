"""Choosing this node's blocks when it starts."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import psutil

from gridnode.config import NodeConfig
from gridnode.core.announcements import PeerState
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import DeviceName, ModelFacts, QuantFormat
from gridnode.core.placement import blocks_that_fit, weakest_span
from gridnode.core.spans import Span
from gridnode.core.swarm import SwarmState
from gridnode.errors import BadInput
from gridnode.node.membership import Membership
from gridnode.units import format_bytes

logger = logging.getLogger("gridnode.node.balancer")

# Somebody who joins a swarm hears of it within a round trip or two; nobody may be there to tell.
NEWS_TIMEOUT_S = 3.0
# Who starts together with us is heard of within this time of the first news.
GATHER_S = 0.5
# Nodes that start together choose one after another, the smallest id first. One that hangs is overtaken.
TURN_TIMEOUT_S = 3.0
# Three quarters of what is available: the rest is for whoever sits at this computer.
DEFAULT_MEMORY_SHARE = 0.75

# Importing torch and waking a graphics card up takes seconds.
PROBE_TIMEOUT_S = 60.0

_TAKEN = frozenset({PeerState.ONLINE, PeerState.JOINING})


def memory_budget_bytes(config: NodeConfig) -> int:
    """Return the bytes that this node may use: what it was told, or a share of what is free on its device.

    Raises:
        BadInput: there is no such device.
    """
    if config.memory_bytes is not None:
        return config.memory_bytes
    return int(_free_bytes(config.device) * DEFAULT_MEMORY_SHARE)


def _free_bytes(device: DeviceName) -> int:
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    # Only torch knows, and it is never imported here.
    command = [sys.executable, "-m", "gridnode.engine.devices", device]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROBE_TIMEOUT_S)
    if asked.returncode:
        lines = asked.stderr.strip().splitlines()
        raise BadInput(lines[-1] if lines else f"the device {device!r} does not answer")
    return int(asked.stdout)


def bytes_per_value(config: NodeConfig) -> int:
    """Return the bytes of an unquantized weight; `auto` plans for the larger."""
    return 2 if config.dtype in ("bfloat16", "float16") else 4


def kv_bytes_per_value(config: NodeConfig) -> int:
    """Return the bytes of a key or a value in a KV cache."""
    return 1 if config.kv == "int8" else bytes_per_value(config)


def choose_span(
    config: NodeConfig, model: ModelId, facts: ModelFacts, swarm: SwarmState, *, me: PeerId, budget_bytes: int
) -> Span:
    """Return the blocks to serve: those asked for, or as many as fit where the swarm is weakest.

    Raises:
        BadInput: the model has no such blocks.
        NoCapacity: not one block fits into the budget.
    """
    if config.blocks is not None:
        if config.blocks.end > facts.num_blocks:
            raise BadInput(f"blocks {config.blocks} asked for, {model.name} has blocks 0:{facts.num_blocks}")
        return config.blocks
    length = blocks_that_fit(
        facts,
        QuantFormat(config.quantization),
        memory_bytes=budget_bytes,
        cache_tokens=config.cache_tokens,
        bytes_per_value=bytes_per_value(config),
        kv_bytes_per_value=kv_bytes_per_value(config),
    )
    return weakest_span(swarm.without(me).spans(model, states=_TAKEN), facts.num_blocks, length)


def is_our_turn(swarm: SwarmState, me: PeerId) -> bool:
    """Return whether no peer with a smaller id is about to choose its blocks."""
    return not any(
        peer_id < me and peer.announcement.state is PeerState.JOINING and peer.announcement.serving is None
        for peer_id, peer in swarm.peers.items()
    )


async def settle(
    config: NodeConfig,
    model: ModelId,
    facts: ModelFacts,
    membership: Membership,
    *,
    me: PeerId,
    expects_news: bool,
) -> Span:
    """Wait a moment for news of the swarm if some are expected, then choose the blocks to serve."""
    if config.blocks is None and expects_news:
        await _hear_of_others(membership, me)
    budget_bytes = await asyncio.to_thread(memory_budget_bytes, config)
    span = choose_span(config, model, facts, membership.swarm, me=me, budget_bytes=budget_bytes)
    logger.info(
        "serving blocks %s of %d of %s, memory budget %s",
        span,
        facts.num_blocks,
        model,
        format_bytes(budget_bytes),
    )
    return span


async def _hear_of_others(membership: Membership, me: PeerId) -> None:
    """Wait until peers that choose before this node have done so."""
    try:
        async with asyncio.timeout(NEWS_TIMEOUT_S):
            await membership.wait_until(lambda swarm: bool(swarm.peers.keys() - {me}))
    except TimeoutError:
        logger.info("no news of the swarm in %.0f s; choosing blocks alone", NEWS_TIMEOUT_S)
        return
    await asyncio.sleep(GATHER_S)
    try:
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await membership.wait_until(lambda swarm: is_our_turn(swarm, me))
    except TimeoutError:
        logger.info("others have not chosen their blocks in %.0f s; not waiting for them", TURN_TIMEOUT_S)
