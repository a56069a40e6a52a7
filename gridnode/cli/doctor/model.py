"""Judging the configured model: its files, its executor, the blocks that fit, its cache. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gridnode.cli.doctor.findings import Finding, Group, State
from gridnode.core.spans import Span
from gridnode.units import format_bytes

_finding = partial(Finding, group=Group.MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What was found of the model that this node is to serve."""

    location: str
    """As configured; empty if none is."""

    problem: str = ""
    """Why it cannot be opened."""

    name: str = ""
    family: str = ""
    num_blocks: int = 0
    executor: str = ""
    executor_problem: str = ""
    span: Span | None = None
    """Blocks that `gridnode up` would serve, or the running node does."""

    is_serving: bool = False
    """Whether a running node serves them."""

    span_problem: str = ""
    """Why not even one block fits."""

    span_bytes: int = 0
    """Weights of the blocks in memory."""

    is_cached: bool = True
    """Whether they are quantized, and kept in the block cache."""

    damaged_files: tuple[Path, ...] = ()
    """Files of quantized blocks that are not what was written."""

    has_chat_template: bool = True
    missing_files: int = 0
    """Weight files of these blocks that the next start fetches from the Hub."""

    missing_bytes: int = 0
    """What is still to be fetched of them."""


def model_findings(facts: ModelFacts) -> Iterator[Finding]:
    """Yield what is to be said of the model."""
    if not facts.location:
        yield _finding(
            check="model",
            state=State.OK,
            measured="none is configured: this node serves no blocks, and answers through others",
        )
        return
    if facts.problem:
        yield _finding(
            check="model",
            state=State.FAIL,
            measured=facts.problem,
            mend=f"gridnode show {shlex.quote(facts.location)}",
        )
        return
    yield _found(facts)
    yield _executor(facts)
    yield _blocks(facts)
    if facts.damaged_files:
        directory = shlex.quote(str(facts.damaged_files[0].parent))
        yield _finding(
            check="block cache",
            state=State.WARN,
            measured=f"{len(facts.damaged_files)} files of quantized blocks are damaged, the first is "
            f"{facts.damaged_files[0].name}; the next start makes them again",
            mend=f"rm -r {directory}",
        )
    else:
        yield _finding(check="block cache", state=State.OK, measured="every file in it is whole")
    if not facts.has_chat_template:
        measured = "there is none: 'gridnode run --raw' continues text, chats are refused"
        mend = f"gridnode show {shlex.quote(facts.location)}"
        yield _finding(check="chat template", state=State.WARN, measured=measured, mend=mend)
    else:
        yield _finding(check="chat template", state=State.OK, measured="there is one")


def _found(facts: ModelFacts) -> Finding:
    measured = f"{facts.name}: family {facts.family}, {facts.num_blocks} blocks"
    if facts.missing_files:
        return _finding(
            check="model",
            state=State.WARN,
            measured=f"{measured}; {facts.missing_files} weight files of its blocks are not here: the start "
            f"fetches {format_bytes(facts.missing_bytes)}",
            mend=f"gridnode pull {facts.location}",
        )
    return _finding(check="model", state=State.OK, measured=measured)


def _executor(facts: ModelFacts) -> Finding:
    if facts.executor_problem:
        mend = "gridnode config set serve.executor auto"
        return _finding(check="executor", state=State.FAIL, measured=facts.executor_problem, mend=mend)
    measured = f"{facts.executor} computes the family {facts.family}"
    return _finding(check="executor", state=State.OK, measured=measured)


def _blocks(facts: ModelFacts) -> Finding:
    if facts.span is None:
        mend = "gridnode up --quantize int4"
        return _finding(check="blocks", state=State.FAIL, measured=facts.span_problem, mend=mend)
    verb = "are served" if facts.is_serving else "would be served"
    measured = f"{facts.span} of {facts.num_blocks} {verb}, weights of {format_bytes(facts.span_bytes)}"
    return _finding(check="blocks", state=State.OK, measured=measured)
