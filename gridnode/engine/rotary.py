"""Rotary position embeddings (RoFormer, arXiv:2104.09864): tables of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gridnode.engine.executor import Array

SUPPORTED_TYPES = frozenset({"default", "linear", "llama3"})
# What files leave out because it is the default of `transformers` for the family.
_USUAL_THETAS = {"gemma3_text": 1e6, "smollm3": 2e6}


def rotary_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of its rotary embeddings, in the form of transformers 5."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    usual = _USUAL_THETAS.get(config.get("model_type", ""), 10000.0)
    found.setdefault("rope_theta", config.get("rope_theta", usual))
    return found


def rotary_tables(parameters: Mapping[str, Any], *, head_dim: int, num_positions: int) -> tuple[Array, Array]:
    """Return cosines and sines, float32 `[num_positions, head_dim / 2]`.

    Raises:
        KeyError: a scaled type lacks one of its parameters.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1.0 / (np.float32(parameters["rope_theta"]) ** exponents)).astype(np.float32)
    if parameters["rope_type"] == "linear":
        frequencies = frequencies / np.float32(parameters["factor"])
    elif parameters["rope_type"] == "llama3":
        frequencies = _llama3(frequencies, parameters)
    angles = np.arange(num_positions, dtype=np.float32)[:, None] * frequencies[None, :]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _llama3(frequencies: Array, parameters: Mapping[str, Any]) -> Array:
    """Slow the low frequencies down, keep the high ones, and blend between (Llama 3.1)."""
    factor = parameters["factor"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    trained = parameters["original_max_position_embeddings"]
    wavelengths = 2 * math.pi / frequencies
    blend = (trained / wavelengths - low) / (high - low)
    blended = (1 - blend) * frequencies / factor + blend * frequencies
    slowed = np.where(wavelengths > trained / low, frequencies / factor, frequencies)
    is_between = (wavelengths <= trained / low) & (wavelengths >= trained / high)
    result: Array = np.where(is_between, blended, slowed).astype(np.float32)
    return result
