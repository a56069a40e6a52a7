"""Training what stays at its owner: batches, steps, checkpoints and going on from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from gridnode.errors import BadCheckpoint, BadInput

CHECKPOINT_FILE = "checkpoint.pt"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How to train. Plan and examples decide the result, however often it is resumed."""

    epochs: int = 3
    """How often every example is seen."""

    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    """Of the order of the examples, another one in every epoch."""

    checkpoint_steps: int = 10
    """Steps between two checkpoints; the last step makes one too."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.checkpoint_steps) < 1:
            raise ValueError("epochs, batch size and steps of a checkpoint are above 0")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"a learning rate is a number above 0, got {self.learning_rate:g}")


class Trainer(Generic[T]):
    """Trains the parameters of `tuned` on `examples`.

    Args:
        tuned: What is trained: prompts, LoRA matrices, a head; all of it here.
        loss_of: Returns the loss of some examples; it asks the swarm for what passes the blocks.
        directory: Where checkpoints are; None makes none.

    Raises:
        BadInput: there is nothing to train, or nothing to train it on.
    """

    def __init__(
        self,
        tuned: nn.Module,
        examples: Sequence[T],
        loss_of: Callable[[list[T]], torch.Tensor],
        plan: TrainingPlan,
        *,
        directory: Path | None = None,
    ) -> None:
        self._tuned = tuned
        self._examples = examples
        self._loss_of = loss_of
        self._plan = plan
        self._directory = directory
        parameters = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        if not parameters or not examples:
            raise BadInput(f"{len(parameters)} parameters to train on {len(examples)} examples")
        self._optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate)
        self.losses: list[float] = []
        """Of every step so far."""

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self._plan.epochs * self._steps_per_epoch

    @property
    def _steps_per_epoch(self) -> int:
        return -(-len(self._examples) // self._plan.batch_size)

    def run(self, on_step: Callable[[int, float], None] = lambda step, loss: None) -> None:
        """Train until the last step of the plan, from where the losses end.

        Args:
            on_step: Called behind every step with its number, from 1, and its loss.

        Raises:
            GridError: the swarm cannot compute; the last checkpoint stays.
        """
        while len(self.losses) < self.num_steps:
            self._optimizer.zero_grad()
            loss = self._loss_of(self._batch(len(self.losses)))
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self.losses.append(float(loss.detach()))
            step = len(self.losses)
            if step % self._plan.checkpoint_steps == 0 or step == self.num_steps:
                self.save()
            on_step(step, self.losses[-1])

    def save(self) -> None:
        """Write a checkpoint in place of the one before, as a whole or not at all."""
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / CHECKPOINT_FILE
        state = {
            "tuned": self._tuned.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "losses": self.losses,
            "order": self._order_key(),
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self) -> bool:
        """Go on where the last checkpoint was made; return whether there is one.

        Raises:
            BadCheckpoint: it cannot be read, or is one of another training.
        """
        path = (self._directory or Path()) / CHECKPOINT_FILE
        if self._directory is None or not path.exists():
            return False
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            if state["order"] != self._order_key():
                raise BadCheckpoint(
                    f"{path} is of a training with {state['order']} (examples, batch size, seed), this one "
                    f"has {self._order_key()}; give the same ones, or another directory"
                )
            self._tuned.load_state_dict(state["tuned"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (OSError, KeyError, RuntimeError, ValueError, EOFError, UnpicklingError) as exc:
            raise BadCheckpoint(f"{path} cannot be gone on with: {exc}") from exc
        self.losses = list(state["losses"])
        return True

    def _batch(self, step: int) -> list[T]:
        """Return the examples of a step, from 0: the plan alone decides, also behind a resumption."""
        epoch, index = divmod(step, self._steps_per_epoch)
        generator = torch.Generator().manual_seed(self._plan.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._examples), generator=generator).tolist()
        start = index * self._plan.batch_size
        return [self._examples[i] for i in order[start : start + self._plan.batch_size]]

    def _order_key(self) -> list[int]:
        return [len(self._examples), self._plan.batch_size, self._plan.seed]
