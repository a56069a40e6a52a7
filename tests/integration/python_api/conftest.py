"""One swarm, the model in it, and the same model here, for all tests of the Python interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from background_swarm import BackgroundSwarm, background_swarm
from transformers import (
    AutoModelForCausalLM,
)

from gridnode.api.auto_model import AutoDistributedModelForCausalLM
from gridnode.core.addresses import Address
from gridnode.core.spans import Span


@pytest.fixture(scope="package")
def swarm(tiny_llama: Path) -> Iterator[BackgroundSwarm]:
    with background_swarm(tiny_llama, [Span(0, 2), Span(2, 4), Span(0, 4)]) as running:
        yield running


@pytest.fixture(scope="package")
def model(swarm: BackgroundSwarm, tiny_llama: Path) -> Iterator[Any]:
    found = AutoDistributedModelForCausalLM.from_pretrained(
        str(tiny_llama), join=swarm.address, listen=Address("127.0.0.1", 0)
    )
    yield found
    found.close()


@pytest.fixture(scope="package")
def whole(tiny_llama: Path) -> Any:
    """The same model, here."""
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


@pytest.fixture(autouse=True)
def nothing_is_leased_afterwards(swarm: BackgroundSwarm) -> Iterator[None]:
    yield
    swarm.wait_nothing_leased()
