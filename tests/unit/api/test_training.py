"""Batches, checkpoints and resumption, on a line with two parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gridnode.api.loss_curve import plot_losses
from gridnode.api.training import Trainer, TrainingPlan
from gridnode.errors import BadCheckpoint, BadInput

EXAMPLES = [(float(x), 3.0 * x - 1.0) for x in range(-5, 6)]
PLAN = TrainingPlan(epochs=4, batch_size=3, learning_rate=0.05, checkpoint_steps=5)


class Stopped(Exception):
    """Something happened."""


def trainer(
    directory: Path | None, plan: TrainingPlan = PLAN
) -> tuple[nn.Linear, Trainer[tuple[float, float]]]:
    torch.manual_seed(0)
    line = nn.Linear(1, 1)

    def loss_of(some: list[tuple[float, float]]) -> torch.Tensor:
        x, y = torch.tensor(some).T
        return ((line(x[:, None])[:, 0] - y) ** 2).mean()

    return line, Trainer(line, EXAMPLES, loss_of, plan, directory=directory)


def test_every_example_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    _, training = trainer(None)
    assert training.num_steps == 16
    epochs = [[x for step in range(4 * e, 4 * e + 4) for x in training._batch(step)] for e in range(4)]
    assert all(sorted(epoch) == EXAMPLES for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_resumed_training_ends_like_one_that_was_never_stopped(tmp_path: Path) -> None:
    undisturbed, training = trainer(None)
    training.run()

    def stop(step: int, loss: float) -> None:
        if step == 8:
            raise Stopped

    _, training_before = trainer(tmp_path)
    with pytest.raises(Stopped):
        training_before.run(stop)
    resumed, training_again = trainer(tmp_path)
    assert training_again.resume()
    assert len(training_again.losses) == 5, "the steps behind the last checkpoint are computed again"
    training_again.run()
    assert training_again.losses == training.losses
    assert torch.equal(resumed.weight, undisturbed.weight)
    assert training.losses[-1] < training.losses[0]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    _, training = trainer(tmp_path)
    assert not training.resume()
    training.save()
    _, other = trainer(tmp_path, TrainingPlan(batch_size=2))
    with pytest.raises(BadCheckpoint, match="give the same ones, or another directory"):
        other.resume()
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(BadCheckpoint, match="cannot be gone on with"):
        training.resume()


def test_nothing_to_train_is_told() -> None:
    with pytest.raises(BadInput, match="0 parameters to train on 1 examples"):
        Trainer(nn.Identity(), [1], lambda some: torch.zeros(()), PLAN)
    with pytest.raises(ValueError, match="above 0"):
        TrainingPlan(epochs=0)
    for learning_rate in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"above 0, got {learning_rate:g}"):
            TrainingPlan(learning_rate=learning_rate)


def test_losses_become_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot_losses([3.0, 2.0, 1.5, 1.4], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
