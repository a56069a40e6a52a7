"""A day in a few hundred pixels. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridnode.control.history import SAMPLE_S, SAMPLES_SHOWN_S, Sample

WIDTH, HEIGHT = SAMPLES_SHOWN_S // SAMPLE_S, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """One figure of one node over 24 hours."""

    title: str
    unit: str
    path: str
    """Bars for SVG, one unit wide each, in a box of `WIDTH` by `HEIGHT`."""

    latest: float
    peak: float
    width: int = WIDTH
    height: int = HEIGHT


def sparkline(
    samples: Sequence[Sample],
    value: Callable[[Sample], float],
    *,
    title: str,
    unit: str,
    now: float,
    top: float | None = None,
) -> Sparkline:
    """Return the sparkline of `value`, with the present at its right end; gaps stay empty.

    Args:
        now: Seconds since 1970.
        top: Value of a full bar; None takes the peak.
    """
    newest = int(now // SAMPLE_S)
    by_slot = {WIDTH - 1 - (newest - int(sample.at // SAMPLE_S)): value(sample) for sample in samples}
    shown = {slot: figure for slot, figure in by_slot.items() if 0 <= slot < WIDTH}
    peak = max(shown.values(), default=0.0)
    full = top or peak or 1.0
    bars = []
    for slot, figure in sorted(shown.items()):
        height = min(1.0, figure / full) * HEIGHT
        # A quiet node is told from one that was not there.
        bars.append(f"M{slot} {HEIGHT}v{-max(height, 1.0):.1f}h1V{HEIGHT}")
    # The slot of the present is not over yet; before it is the last whole one.
    latest = shown.get(WIDTH - 1, shown.get(WIDTH - 2, 0.0))
    return Sparkline(title=title, unit=unit, path="".join(bars), latest=latest, peak=peak)


def day(samples: Sequence[Sample], *, now: float) -> list[Sparkline]:
    """Return what the page of a node shows of its last 24 hours."""
    lines: list[tuple[str, str, Callable[[Sample], float], float | None]] = [
        ("Answers", "tokens/s", lambda s: s.tokens / SAMPLE_S, None),
        ("Sessions", "at once", lambda s: s.sessions, None),
        ("KV cache in use", "%", lambda s: 100 * s.cache_use, 100.0),
    ]
    return [
        sparkline(samples, value, title=title, unit=unit, now=now, top=top)
        for title, unit, value, top in lines
    ]
