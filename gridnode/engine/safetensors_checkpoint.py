"""Checkpoints in safetensors files: a local directory, or a repository of the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # registers bfloat16 with numpy, which safetensors looks up by name
import numpy as np
from safetensors import SafetensorError, safe_open

from gridnode.engine.checkpoint import Checkpoint, TensorEntry
from gridnode.engine.executor import Array
from gridnode.engine.manifest import file_hash
from gridnode.errors import BadCheckpoint, reason

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
# Of unquantized weights. Files that others quantized have integers, and scales that differ by tool.
_WEIGHT_DTYPES = frozenset(np.dtype(t) for t in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16))
_FETCH_AGAIN = "the file is damaged or still being downloaded: fetch it again"
_UNQUANTIZED = "gridnode quantizes by itself: use the unquantized checkpoint of this model"


class SafetensorsCheckpoint(Checkpoint):
    """Reads tensors out of safetensors files, one at a time.

    Args:
        fetch: Returns the local path of a weight file, downloading it first if it must.
        text_dir: Directory of the tokenizer's files.
    """

    def __init__(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        tensors: Mapping[str, TensorEntry],
        file_hashes: Mapping[str, str],
        fetch: Callable[[str], Path],
        text_dir: Path,
    ) -> None:
        self._stored_names = text_names(tensors)
        text_tensors = {name: tensors[stored] for name, stored in self._stored_names.items()}
        super().__init__(name=name, config=config, tensors=text_tensors, file_hashes=file_hashes)
        self._fetch = fetch
        self._text_dir = text_dir

    @property
    def text_dir(self) -> Path | None:
        """Directory with the tokenizer's files."""
        return self._text_dir

    @property
    def has_chat_template(self) -> bool:
        """Whether there is a template among the tokenizer's files."""
        from gridnode.engine.text import find_chat_template  # loads the tokenizers

        return find_chat_template(self._text_dir) is not None

    @property
    def licence(self) -> str:
        """The licence that the model's card names."""
        try:
            card = (self._text_dir / CARD_FILE).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        head = re.match(r"---\n(.*?)\n---", card, flags=re.S)
        for field in ("license_name", "license"):  # a licence that the Hub has no word for has a name
            if head and (found := re.search(rf"^{field}:\s*([\w.+-]+)\s*$", head[1], flags=re.M)):
                return found[1]
        return ""

    def read(self, name: str) -> Array:
        """Return a tensor; see `Checkpoint.read`."""
        entry = self.entry(name)
        path = self._fetch(entry.weight_file)
        try:
            with safe_open(path, framework="np") as file:  # a memory map: only this tensor's pages are read
                tensor: Array = file.get_tensor(self._stored_names[name])
        except (SafetensorError, OSError) as exc:
            raise BadCheckpoint(f"cannot read {name!r} from {path}: {exc}; {_FETCH_AGAIN}") from exc
        except (AttributeError, TypeError) as exc:  # numpy has no such type: 8-bit floats
            raise BadCheckpoint(
                f"{name!r} in {path} holds other values than floats of 16 bits or more; {_UNQUANTIZED}"
            ) from exc
        if tensor.dtype not in _WEIGHT_DTYPES:
            raise BadCheckpoint(
                f"{name!r} in {path} holds {tensor.dtype} values, floats expected; {_UNQUANTIZED}"
            )
        return tensor


def open_directory(directory: Path) -> SafetensorsCheckpoint:
    """Return the checkpoint in a local directory.

    Raises:
        BadCheckpoint: a file is missing, truncated or inconsistent.
    """
    config = read_json(directory / CONFIG_FILE)
    weight_files = _weight_files(directory)
    tensors: dict[str, TensorEntry] = {}
    for weight_file in weight_files:
        tensors.update(read_entries(directory / weight_file))
    if (directory / INDEX_FILE).exists():
        promised = read_json(directory / INDEX_FILE)["weight_map"]
        missing = sorted(promised.keys() - tensors.keys())
        if missing:
            raise BadCheckpoint(
                f"{directory} lacks {len(missing)} of {len(promised)} tensors that its index promises, "
                f"the first is {missing[0]!r}; fetch the checkpoint again"
            )
    return SafetensorsCheckpoint(
        name=directory.resolve().name,
        config=text_config(config),
        tensors=tensors,
        file_hashes={weight_file: file_hash(directory / weight_file) for weight_file in weight_files},
        fetch=lambda weight_file: directory / weight_file,
        text_dir=directory,
    )


def read_entries(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a weight file, from its header.

    Raises:
        BadCheckpoint: the file is missing, or its header does not fit its length.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {
                name: TensorEntry(path.name, tuple(file.get_slice(name).get_shape()))
                for name in file.keys()  # noqa: SIM118 - not a mapping
            }
    except (SafetensorError, OSError) as exc:
        size = f" ({path.stat().st_size} bytes)" if path.exists() else ""
        raise BadCheckpoint(f"cannot read {path}{size}: {exc}; {_FETCH_AGAIN}") from exc


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        BadCheckpoint: the file is missing or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BadCheckpoint(f"cannot read {path}: {reason(exc)}") from exc
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{path} holds a {type(found).__name__}, not an object")
    return found


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that describes the language model.

    Raises:
        BadCheckpoint: its weights are quantized already. Told before gigabytes of them are fetched.
    """
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "?") if isinstance(quantized, dict) else "?"
        raise BadCheckpoint(f"the weights of this checkpoint are quantized ({method}); {_UNQUANTIZED}")
    inner = config.get("text_config")
    return dict(inner) if isinstance(inner, dict) else dict(config)


def text_names(tensors: Iterable[str]) -> dict[str, str]:
    """Return the language model's tensors: their names in a model of text only, with those in the files.

    Models that also see or hear put `language_model.` before them, or behind `model.`.
    """
    names = list(tensors)
    if not any("language_model." in name for name in names):
        return {name: name for name in names}
    found = {}
    for name in names:
        head, is_text, tail = name.partition("language_model.")
        if is_text:
            found[f"{head}{tail}"] = name
        elif name.startswith("lm_head."):
            found[name] = name
    return found


def _weight_files(directory: Path) -> list[str]:
    if (directory / INDEX_FILE).exists():
        weight_map = read_json(directory / INDEX_FILE).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise BadCheckpoint(f"{directory / INDEX_FILE} has no weight_map")
        return sorted(set(weight_map.values()))
    if (directory / SINGLE_FILE).exists():
        return [SINGLE_FILE]
    raise BadCheckpoint(
        f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}; gridnode reads safetensors and GGUF, "
        "convert other formats with save_pretrained(safe_serialization=True)"
    )
