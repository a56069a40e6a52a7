"""Training through the swarm from the command line, with a bar for people and lines for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gridnode.cli.json_records import TuningStep
from gridnode.cli.showing import print_json, stderr
from gridnode.core.addresses import Address
from gridnode.errors import BadInput

CURVE_FILE = "loss.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a person wants to have trained."""

    data: Path
    model: str
    out: Path
    method: str
    rank: int
    num_vectors: int
    epochs: int
    batch_size: int
    learning_rate: float
    max_tokens: int
    seed: int
    resume: bool


def run_tuning(wanted: Tuning, api: Address, *, as_json: bool) -> None:
    """Train, save the result and the curve of losses, and say where they are.

    Raises:
        BadInput: the data, or a number, cannot be used.
        GridError: the swarm cannot compute; '--resume' goes on from the last checkpoint.
    """
    import torch

    from gridnode.api.auto_model import AutoDistributedModelForCausalLM
    from gridnode.api.loss_curve import plot_losses
    from gridnode.api.text_examples import loss_of_examples, read_examples
    from gridnode.api.training import Trainer, TrainingPlan
    from gridnode.engine.locate import open_checkpoint
    from gridnode.engine.select import prepare_text
    from gridnode.engine.text import load_text_codec

    try:
        plan = TrainingPlan(
            epochs=wanted.epochs,
            batch_size=wanted.batch_size,
            learning_rate=wanted.learning_rate,
            seed=wanted.seed,
        )
    except ValueError as exc:
        raise BadInput(str(exc)) from exc
    directory = prepare_text(open_checkpoint(wanted.model))
    if directory is None:
        raise BadInput(f"{wanted.model} comes without a tokenizer")
    examples = read_examples(wanted.data, load_text_codec(directory), max_tokens=wanted.max_tokens)
    torch.manual_seed(wanted.seed)
    model = AutoDistributedModelForCausalLM.from_pretrained(wanted.model, api=api)
    try:
        tuned = _made(model, wanted)
        trainer = Trainer(
            tuned, examples, lambda some: loss_of_examples(model, some), plan, directory=wanted.out
        )
        if wanted.resume and trainer.resume():
            stderr().print(f"going on behind step {len(trainer.losses)}")
        with _shown(trainer.num_steps, len(trainer.losses), as_json=as_json) as on_step:
            trainer.run(on_step)
        tuned.save(wanted.out)
        drawn = plot_losses(trainer.losses, wanted.out / CURVE_FILE)
    finally:
        model.close()
    stderr().print(f"{trainer.losses[0]:.4f} at the first step, {trainer.losses[-1]:.4f} at the last one")
    curve = f", the losses in {wanted.out / CURVE_FILE}" if drawn else "; matplotlib would draw the losses"
    stderr().print(f"the result is in {wanted.out}{curve}")


def _made(model: Any, wanted: Tuning) -> Any:
    from gridnode.api.lora import LoraTuning
    from gridnode.api.prompt_tuning import PromptTuning

    if wanted.method == "lora":
        return LoraTuning(model, rank=wanted.rank, alpha=2.0 * wanted.rank)
    return PromptTuning(model, num_tokens=wanted.num_vectors, deep=wanted.method == "deep-prompt")


@contextmanager
def _shown(num_steps: int, num_done: int, *, as_json: bool) -> Iterator[Callable[[int, float], None]]:
    """Show every step while this lasts."""
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr(), disable=as_json) as progress:
        task = progress.add_task("", total=num_steps, completed=num_done, loss="-")
        before_s = time.monotonic()

        def on_step(step: int, loss: float) -> None:
            nonlocal before_s
            now_s = time.monotonic()
            progress.update(task, completed=step, loss=f"{loss:.4f}")
            if as_json:
                print_json(TuningStep(step=step, num_steps=num_steps, loss=loss, step_s=now_s - before_s))
            before_s = now_s

        yield on_step
