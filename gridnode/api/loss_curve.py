"""The losses of a training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# Of the last losses; single batches differ by chance.
_AVERAGED_STEPS = 10


def plot_losses(losses: Sequence[float], path: Path) -> bool:
    """Write a PNG of `losses`; return whether matplotlib is there to draw it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = range(1, len(losses) + 1)
    averages = [
        sum(losses[max(0, step - _AVERAGED_STEPS) : step]) / min(step, _AVERAGED_STEPS) for step in steps
    ]
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, label="step")
    axes.plot(steps, averages, color="tab:blue", label=f"mean of {_AVERAGED_STEPS}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
    return True
