"""What an answer cost: its route with times and bytes, for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gridnode.cli.showing import milliseconds, name_text, plain_table
from gridnode.control.answer_schema import Finished, HopStatus, Rerouted
from gridnode.units import format_bytes, format_seconds

_NUMBERS = frozenset({"HOP", "COMPUTE", "HOP TIME", "IN", "OUT"})


def route_table(hops: Sequence[HopStatus]) -> RenderableType:
    """Return one line per hop: medians over the decode steps of an answer."""
    table = plain_table("HOP", "NODE", "BLOCKS", "COMPUTE", "HOP TIME", "IN", "OUT", "NAME", right=_NUMBERS)
    for number, hop in enumerate(hops, start=1):
        table.add_row(
            str(number),
            hop.short,
            f"{hop.start}:{hop.end}",
            f"{milliseconds(hop.compute_s)} ms",
            f"{milliseconds(hop.hop_s)} ms",
            format_bytes(hop.received_bytes),
            format_bytes(hop.sent_bytes),
            name_text(hop.public_name),
        )
    return table


def answer_stats(finished: Finished) -> RenderableType:
    """Return the route of an answer and its figures."""
    return Group(Text(""), route_table(finished.route), Text(figures(finished)))


def figures(finished: Finished) -> str:
    """Return the figures of an answer on one line."""
    parts = [
        f"{finished.prompt_tokens} tokens asked",
        f"{finished.completion_tokens} answered",
        f"first after {format_seconds(finished.ttft_s)}",
    ]
    tokens_per_lap = (finished.completion_tokens - 1) / finished.laps if finished.laps else 1.0
    if finished.decode_tokens_per_s:
        per_token_s = 1 / finished.decode_tokens_per_s
        in_hops_s = sum(hop.hop_s for hop in finished.route) / tokens_per_lap
        parts.append(
            f"{finished.decode_tokens_per_s:.1f} tokens/s "
            f"({milliseconds(per_token_s)} ms a token, {milliseconds(in_hops_s)} ms of it in the hops)"
        )
    if finished.draft_tokens:
        accepted = f"{finished.accepted_draft_tokens} of {finished.draft_tokens} drafts accepted"
        parts.append(f"{tokens_per_lap:.1f} tokens a lap ({accepted})")
    if finished.reroutes:
        parts.append(f"{finished.reroutes} times rerouted")
    return ", ".join(parts)


def reroute_line(event: Rerouted) -> str:
    """Return what happened to the route, in the middle of an answer."""
    route = " > ".join(f"{hop.short} {hop.start}:{hop.end}" for hop in event.route)
    return f"a hop was lost, rerouted: {route}"
