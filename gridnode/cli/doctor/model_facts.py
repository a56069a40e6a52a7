"""Opening the configured model, and planning its blocks as `gridnode up` does."""

from __future__ import annotations

from gridnode.cli.doctor.model import ModelFacts
from gridnode.cli.pulling import files_of
from gridnode.config import NodeConfig
from gridnode.control.status_schema import NodeStatus, ServingStatus
from gridnode.core.ids import PeerId
from gridnode.core.placement import block_bytes
from gridnode.core.spans import Span
from gridnode.core.swarm import SwarmState
from gridnode.engine.block_cache import damaged_files
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.hub_checkpoint import find_hub_model
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.model_use import is_hub_id
from gridnode.engine.requests import EngineConfig
from gridnode.engine.select import choose_executor
from gridnode.errors import BadCheckpoint, BadInput, NoCapacity
from gridnode.node.balancer import bytes_per_value, choose_span, memory_budget_bytes


def find_model(config: NodeConfig, swarm: SwarmState, status: NodeStatus | None, *, me: PeerId) -> ModelFacts:
    """Return the facts of the model that this node is to serve, and of its blocks.

    Args:
        swarm: Who serves what, as far as it is known.
        me: Who this node is: what it announced itself does not count.
    """
    if not config.model:
        return ModelFacts(location="")
    try:
        hub = find_hub_model(config.model) if is_hub_id(config.model) else None
        checkpoint = hub.checkpoint if hub else open_checkpoint(config.model)
        facts = checkpoint.facts
    except BadCheckpoint as exc:
        return ModelFacts(location=config.model, problem=str(exc))
    serving = _serving(status)
    span, problem = (
        (Span(serving.start, serving.end), "") if serving else _plan(config, checkpoint, swarm, me)
    )
    one_block = block_bytes(facts, config.quantization, bytes_per_value=bytes_per_value(config))
    files = [hub.weight_files[name] for name in files_of(checkpoint, span)] if hub else []
    executor, executor_problem = _executor(config, checkpoint, span or Span(0, 1))
    return ModelFacts(
        location=config.model,
        name=checkpoint.model_id.name,
        family=facts.family,
        num_blocks=facts.num_blocks,
        executor=executor,
        executor_problem=executor_problem,
        span=span,
        is_serving=serving is not None,
        span_problem=problem,
        span_bytes=one_block * len(span) if span else 0,
        is_cached=config.quantization.is_cached,
        damaged_files=damaged_files(checkpoint.model_id.manifest),
        has_chat_template=checkpoint.has_chat_template,
        missing_files=sum(file.cached() is None for file in files),
        missing_bytes=sum(file.size_bytes - file.fetched_bytes() for file in files),
    )


def _serving(status: NodeStatus | None) -> ServingStatus | None:
    """Return what the running node serves."""
    mine = [peer.serving for peer in status.peers if peer.is_self] if status else []
    return mine[0] if mine else None


def _plan(
    config: NodeConfig, checkpoint: Checkpoint, swarm: SwarmState, me: PeerId
) -> tuple[Span | None, str]:
    """Return the blocks to serve, or why none can be."""
    try:
        budget_bytes = memory_budget_bytes(config)
        model, facts = checkpoint.model_id, checkpoint.facts
        return choose_span(config, model, facts, swarm, me=me, budget_bytes=budget_bytes), ""
    except (BadInput, NoCapacity) as exc:
        return None, str(exc)


def _executor(config: NodeConfig, checkpoint: Checkpoint, span: Span) -> tuple[str, str]:
    """Return what computes the model, and why nothing can if nothing does."""
    engine = EngineConfig(
        location=config.model,
        span=span,
        quantization=config.quantization,
        dtype=config.dtype,
        device=config.device,
        executor=config.executor,
    )
    try:
        return choose_executor(engine, checkpoint), ""
    except BadInput as exc:
        return "", str(exc)
