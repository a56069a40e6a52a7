"""Choosing this node's blocks when it starts."""

from __future__ import annotations

import asyncio
import logging

import psutil

from gridnode.config import NodeConfig
from gridnode.core.announcements import PeerState
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import ModelFacts, QuantFormat
from gridnode.core.placement import blocks_that_fit, weakest_span
from gridnode.core.spans import Span
from gridnode.core.swarm import SwarmState
from gridnode.errors import BadInput
from gridnode.node.membership import Membership
from gridnode.units import format_bytes

logger = logging.getLogger("gridnode.node.balancer")

# Somebody who joins a swarm hears of it within a round trip or two; nobody may be there to tell.
NEWS_TIMEOUT_S = 3.0
# Nodes that start together choose one after another, in an order that their ids decide.
MAX_STAGGER_S = 1.5
# Three quarters of what is available: the rest is for whoever sits at this computer.
DEFAULT_MEMORY_SHARE = 0.75

_TAKEN = frozenset({PeerState.ONLINE, PeerState.JOINING})


def memory_budget_bytes(config: NodeConfig) -> int:
    """Return the bytes that this node may use: what it was told, or a share of what is available."""
    if config.memory_bytes is not None:
        return config.memory_bytes
    return int(psutil.virtual_memory().available * DEFAULT_MEMORY_SHARE)


def bytes_per_value(config: NodeConfig) -> int:
    """Return the bytes of an unquantized weight or KV value; `auto` plans for the larger."""
    return 2 if config.dtype == "bfloat16" else 4


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
    )
    return weakest_span(swarm.without(me).spans(model, states=_TAKEN), facts.num_blocks, length)


async def settle(
    config: NodeConfig, model: ModelId, facts: ModelFacts, membership: Membership, *, me: PeerId
) -> Span:
    """Wait a moment for news of the swarm, then choose the blocks to serve."""
    if config.blocks is None and config.join:
        try:
            async with asyncio.timeout(NEWS_TIMEOUT_S):
                await membership.wait_until(lambda swarm: bool(swarm.peers.keys() - {me}))
        except TimeoutError:
            logger.info("no news of the swarm in %.0f s; choosing blocks alone", NEWS_TIMEOUT_S)
        await asyncio.sleep(MAX_STAGGER_S * me[0] / 255)
    budget_bytes = memory_budget_bytes(config)
    span = choose_span(config, model, facts, membership.swarm, me=me, budget_bytes=budget_bytes)
    logger.info(
        "serving blocks %s of %d of %s, memory budget %s",
        span,
        facts.num_blocks,
        model,
        format_bytes(budget_bytes),
    )
    return span
