"""LoRA adapters on disk, in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

Imports no torch. Pickled files are refused: to load them is to run them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gridnode.engine.executor import Array
from gridnode.engine.tuned_tensors import LORA_B
from gridnode.errors import BadCheckpoint

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`
_NAME = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)\.(lora_[AB])(?:\.[^.]+)?\.weight$")
# What changes more than the matrices that a hop adds.
_REFUSED = {"use_dora": False, "bias": "none", "modules_to_save": None, "fan_in_fan_out": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One adapter: what it adds to the blocks of its model."""

    name: str
    """What people call it."""

    digest: str
    """SHA-256 of its weights: two adapters of one name never mix."""

    rank: int
    alpha: float
    tensors: Mapping[str, Array]
    """As PEFT stores them, float32, named as in `gridnode.engine.tuned_tensors`."""

    scales: Mapping[str, float]
    """What each `lora_B` is multiplied with, by its name."""

    @property
    def adapter_id(self) -> str:
        """What nodes announce: the name, and the beginning of the digest."""
        return f"{self.name}@{self.digest[:12]}"

    def scaled(self) -> dict[str, Array]:
        """Return the tensors as blocks take them."""
        return {name: array * self.scales.get(name, 1.0) for name, array in self.tensors.items()}


def read_adapter(location: str) -> Adapter:
    """Read the adapter in a directory, or of a repository of the Hub.

    Raises:
        BadCheckpoint: there is none, it is pickled, or it is more than LoRA matrices.
    """
    directory = Path(location).expanduser()
    if not directory.is_dir():
        directory = _fetched(location)
    config, weights = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    if not weights.is_file():
        pickled = sorted(path.name for path in directory.glob("adapter_model.*"))
        what = f"{pickled[0]}, which could run anything: save it as safetensors" if pickled else "no weights"
        raise BadCheckpoint(f"{location} has {what}; an adapter is {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        with safe_open(weights, framework="np") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, ValueError, SafetensorError) as exc:
        raise BadCheckpoint(f"the adapter {location} cannot be read: {exc}") from exc
    _check(settings, location)
    tensors: dict[str, Array] = {}
    for name, array in stored.items():
        match = _NAME.search(name)
        if match is None:
            raise BadCheckpoint(f"the adapter {location} has {name!r}, which is no LoRA matrix of a block")
        tensors[f"{int(match[1])}.{match[2]}.{match[3]}"] = np.ascontiguousarray(array, np.float32)
    name = directory.name if Path(location).expanduser().is_dir() else location
    return Adapter(
        name=name,
        digest=hashlib.sha256(weights.read_bytes() + config.read_bytes()).hexdigest(),
        rank=int(settings["r"]),
        alpha=float(settings["lora_alpha"]),
        tensors=tensors,
        scales={each: _scale(each, array, settings) for each, array in tensors.items() if _is_b(each)},
    )


def write_adapter(
    directory: Path, tensors: Mapping[str, Array], *, blocks_path: str, rank: int, alpha: float, base: str
) -> None:
    """Write an adapter that PEFT can read.

    Args:
        blocks_path: Where the whole model has its blocks.
        base: Name of the model that it is for.
    """
    directory.mkdir(parents=True, exist_ok=True)
    stored = {}
    for name, array in tensors.items():
        stored[f"base_model.model.{blocks_path}.{name}.weight"] = np.ascontiguousarray(array, np.float32)
    targets = sorted({name.partition(".")[2].rpartition(".")[0].rpartition(".")[2] for name in tensors})
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
        "inference_mode": True,
    }
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(stored, str(directory / WEIGHTS_FILE))


def _fetched(location: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(location, allow_patterns=[CONFIG_FILE, "adapter_model.*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        raise BadCheckpoint(
            f"{location} is no directory here, and no adapter of the Hub that can be fetched: {exc}"
        ) from exc


def _check(settings: Mapping[str, Any], location: str) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA" or not isinstance(settings.get("r"), int) or "lora_alpha" not in settings:
        raise BadCheckpoint(f"the adapter {location} is of the type {kind}; nodes take LORA")
    for key, harmless in _REFUSED.items():
        if settings.get(key, harmless) not in (harmless, None, False, [], "none"):
            raise BadCheckpoint(
                f"the adapter {location} has {key} = {settings[key]!r}; nodes take LoRA matrices alone"
            )


def _is_b(name: str) -> bool:
    return name.endswith(f".{LORA_B}")


def _scale(name: str, array: Array, settings: Mapping[str, Any]) -> float:
    path = name.partition(".")[2].rpartition(".")[0]
    rank = array.shape[1] if array.ndim == 2 else int(settings["r"])
    alpha = next(
        (value for key, value in (settings.get("alpha_pattern") or {}).items() if path.endswith(key)),
        settings["lora_alpha"],
    )
    return float(alpha) / (sqrt(rank) if settings.get("use_rslora") else rank)
