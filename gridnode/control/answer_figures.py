"""What an answer cost and which way it took: headers and the object `gridnode` of every dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridnode.control.answer_schema import Finished, HopStatus, Started


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """The object `gridnode` beside the usage of an answer."""

    route: tuple[HopStatus, ...]
    """The hops at the end of the answer, with their times and bytes."""

    reroutes: int
    """How often a hop was lost and replaced."""

    context_used_tokens: int
    context_limit_tokens: int
    """Longest session that the route takes."""

    ttft_s: float
    """Seconds from the request to the first token."""

    decode_tokens_per_s: float
    """Tokens after the first one per second."""

    laps: int
    """Steps through all hops after the prompt."""

    draft_tokens: int
    """Tokens that were proposed on the way, and verified by the hops."""

    accepted_draft_tokens: int
    """Those of them that are part of the answer."""


def answer_figures(started: Started, finished: Finished) -> AnswerFigures:
    """Return the figures of a complete answer."""
    return AnswerFigures(
        route=finished.route,
        reroutes=finished.reroutes,
        context_used_tokens=finished.prompt_tokens + finished.completion_tokens,
        context_limit_tokens=context_limit_tokens(started),
        ttft_s=finished.ttft_s,
        decode_tokens_per_s=finished.decode_tokens_per_s,
        laps=finished.laps,
        draft_tokens=finished.draft_tokens,
        accepted_draft_tokens=finished.accepted_draft_tokens,
    )


def start_headers(started: Started) -> Mapping[str, str]:
    """Return the headers of an answer that begins: its route, and what the prompt takes of the context."""
    return {
        "x-gridnode-route": describe_route(started.route),
        "x-gridnode-context": f"{started.prompt_tokens}/{context_limit_tokens(started)}",
    }


def whole_headers(figures: AnswerFigures) -> Mapping[str, str]:
    """Return the headers of a complete answer, with times of every hop (W3C Server Timing)."""
    timing = [f"ttft;dur={figures.ttft_s * 1000:.1f}"]
    for number, hop in enumerate(figures.route):
        # Short ids only: names are chosen by strangers, and headers are no place for any text.
        says = f"{hop.short} {hop.start}:{hop.end}, {hop.received_bytes} B in, {hop.sent_bytes} B out"
        timing.append(f'hop{number};dur={hop.hop_s * 1000:.1f};desc="{says}"')
    return {
        "x-gridnode-route": describe_route(figures.route),
        "x-gridnode-context": f"{figures.context_used_tokens}/{figures.context_limit_tokens}",
        "x-gridnode-reroutes": str(figures.reroutes),
        "x-gridnode-drafts": f"{figures.accepted_draft_tokens}/{figures.draft_tokens} in {figures.laps} laps",
        "server-timing": ", ".join(timing),
    }


def describe_route(route: Sequence[HopStatus]) -> str:
    """Return a route on one line: `aaaaaaaa 0:12 > bbbbbbbb 12:30`."""
    return " > ".join(f"{hop.short} {hop.start}:{hop.end}" for hop in route)


def context_limit_tokens(started: Started) -> int:
    """Return the longest session of the route; nodes that do not tell it have leased the answer's own."""
    return started.context_limit_tokens or started.context_tokens
