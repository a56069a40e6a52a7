"""What norms multiply with."""

from __future__ import annotations

import numpy as np

from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array

GEMMAS = frozenset({"gemma", "gemma2", "gemma3_text"})
"""Families whose norms multiply with one more than what is stored."""


def norm_weight(checkpoint: Checkpoint, name: str) -> Array:
    """Return what the norm `name` multiplies with, float32."""
    stored: Array = checkpoint.read(name).astype(np.float32)
    return stored + np.float32(1.0) if checkpoint.config.get("model_type") in GEMMAS else stored
