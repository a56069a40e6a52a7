"""A model's files: configuration, tensors by name, and nothing loaded before it is asked for.

Imports no torch. Tensor names are those of `transformers`, whatever the file format.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from gridnode.core.ids import ModelId
from gridnode.core.models import ModelFacts
from gridnode.core.spans import MAX_BLOCKS
from gridnode.engine.executor import Array
from gridnode.engine.manifest import manifest_hash
from gridnode.engine.quantization import Groups
from gridnode.errors import BadCheckpoint

# `model.layers.7.`, `transformer.h.7.`, `gpt_neox.layers.7.`
_BLOCK_NAME = re.compile(r"^(?P<prefix>(?:.*\.)?(?:layers|h|blocks))\.(?P<index>\d+)\.")
_EMBED_NAME = re.compile(r"(?:^|\.)(?:embed_tokens|word_embeddings|wte|embed_in)\.weight$")
_HEAD_NAME = re.compile(r"^(?:lm_head|embed_out)\.weight$")
# `model.norm`, `transformer.ln_f`, `gpt_neox.final_layer_norm`
_NORM_NAME = re.compile(r"(?:^|\.)(?:norm|ln_f|norm_f|final_layer_norm|final_layernorm)\.weight$")

_WITHOUT_NORM_WEIGHTS = frozenset({"olmo", "nanochat"})
# What files of a family leave out because it is the default of `transformers`.
_LEFT_OUT: dict[str, dict[str, float]] = {
    "gemma2": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    "smollm3": {"num_key_value_heads": 4, "max_position_embeddings": 32768},
}
_TIED_BY_DEFAULT = frozenset({"bloom", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "mpt", "smollm3"})


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor is and what it looks like."""

    weight_file: str
    shape: tuple[int, ...]

    @property
    def num_params(self) -> int:
        """Values in the tensor."""
        return prod(self.shape)


class Checkpoint(ABC):
    """One model on disk or on the Hub. Made by `gridnode.engine.locate.open_checkpoint`.

    Args:
        name: What people call the model.
        config: Its configuration in the form of `transformers`.
        tensors: Every tensor, by name.
        file_hashes: SHA-256 of every weight file, by name.
    """

    def __init__(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        tensors: Mapping[str, TensorEntry],
        file_hashes: Mapping[str, str],
    ) -> None:
        self.config = with_defaults(config)
        self.tensors = dict(tensors)
        try:
            self.model_id = ModelId(name, manifest_hash(config, file_hashes))
        except ValueError as exc:
            raise BadCheckpoint(f"{exc}: rename its file or directory") from exc

    @abstractmethod
    def read(self, name: str) -> Array:
        """Return a tensor, reading its bytes and no others. bfloat16 comes as `ml_dtypes.bfloat16`.

        Raises:
            BadCheckpoint: there is no such tensor, or its file is damaged.
        """

    def read_groups(self, name: str) -> Groups | None:
        """Return a tensor that the file holds in groups of 4 bits; None for any other."""
        return None

    @property
    @abstractmethod
    def text_dir(self) -> Path | None:
        """Directory with the tokenizer's files, or None if they must be exported (GGUF)."""

    @property
    @abstractmethod
    def has_chat_template(self) -> bool:
        """Whether the model says how a conversation is written."""

    @property
    @abstractmethod
    def licence(self) -> str:
        """The licence as its publisher names it; empty if nothing here tells it."""

    @cached_property
    def facts(self) -> ModelFacts:
        """The shape of the model.

        Raises:
            BadCheckpoint: the configuration or a tensor lacks what every decoder has.
        """
        return model_facts(self.config, self.tensors)

    def entry(self, name: str) -> TensorEntry:
        """Return where a tensor is.

        Raises:
            BadCheckpoint: there is no such tensor.
        """
        try:
            return self.tensors[name]
        except KeyError:
            raise BadCheckpoint(
                f"{self.model_id.name} has no tensor {name!r} among its {len(self.tensors)}; "
                "the checkpoint is incomplete: fetch it again"
            ) from None

    def block_names(self, block_index: int) -> list[str]:
        """Return the names of the tensors of one block, in order.

        Raises:
            BadCheckpoint: the block is missing.
        """
        names = [name for name in self.tensors if block_of(name) == block_index]
        if not names:
            raise BadCheckpoint(
                f"{self.model_id.name} has no tensors of block {block_index} of {self.facts.num_blocks}; "
                "the checkpoint is incomplete: fetch it again"
            )
        return sorted(names)

    @property
    def embed_name(self) -> str:
        """Name of the embeddings.

        Raises:
            BadCheckpoint: there are none.
        """
        return self._name_like(_EMBED_NAME, "embeddings")

    @property
    def start_names(self) -> list[str]:
        """Names of the tensors before the first block: the embeddings, and what is done to them."""
        ends = self.end_names
        return [name for name in self.tensors if block_of(name) is None and name not in ends]

    @property
    def end_names(self) -> list[str]:
        """Names of the tensors behind the last block: the final norm, and the head if it is not tied.

        Raises:
            BadCheckpoint: there is no norm.
        """
        modules = ["lm_head.", "embed_out."]
        if self.config.get("model_type") not in _WITHOUT_NORM_WEIGHTS:
            modules.append(self.norm_name.removesuffix("weight"))
        return [n for n in self.tensors if block_of(n) is None and n.startswith(tuple(modules))]

    @property
    def norm_name(self) -> str:
        """Name of the norm between the last block and the head.

        Raises:
            BadCheckpoint: there is none.
        """
        return self._name_like(_NORM_NAME, "final norm")

    @property
    def head_name(self) -> str:
        """Name of the head; that of the embeddings if they are tied.

        Raises:
            BadCheckpoint: there is none, and the configuration does not tie it to the embeddings.
        """
        # A stored head counts in any case; a missing one may be replaced only where the model says so,
        # because a model with the wrong head answers, but with nonsense.
        is_stored = any(_HEAD_NAME.search(name) for name in self.tensors)
        if is_stored or not is_tied(self.config):
            return self._name_like(_HEAD_NAME, "head")
        return self.embed_name

    def _name_like(self, pattern: re.Pattern[str], what: str) -> str:
        for name in self.tensors:
            if block_of(name) is None and pattern.search(name):
                return name
        raise BadCheckpoint(
            f"{self.model_id.name} has no {what} among its {len(self.tensors)} tensors; "
            "the checkpoint is incomplete: fetch it again"
        )


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with what its file left out because it is usual in its family."""
    return {**_LEFT_OUT.get(config.get("model_type", ""), {}), **config}


def is_tied(config: Mapping[str, Any]) -> bool:
    """Return whether the head of a model is its embeddings."""
    tied = config.get("tie_word_embeddings")
    if isinstance(tied, bool):
        return tied
    # Files leave out what is the default of their family, and families differ in it.
    return bool(config.get("model_type") in _TIED_BY_DEFAULT)


def block_of(name: str) -> int | None:
    """Return the block that a tensor belongs to, or None for the embeddings, the norm and the head."""
    match = _BLOCK_NAME.match(name)
    return int(match["index"]) if match else None


def model_facts(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> ModelFacts:
    """Return the shape of the model with `config` and `tensors`.

    Raises:
        BadCheckpoint: something is missing, or the tensors contradict the configuration.
    """
    num_blocks = _number(config, "num_hidden_layers", "n_layer", "n_layers")
    hidden_size = _number(config, "hidden_size", "n_embed", "n_embd", "d_model")
    num_heads = _number(config, "num_attention_heads", "n_head", "n_heads")
    if not 0 < num_blocks <= MAX_BLOCKS or hidden_size < 1 or num_heads < 1:
        raise BadCheckpoint(
            f"impossible model: {num_blocks} blocks of width {hidden_size}, {num_heads} heads"
        )
    embed = next((entry for name, entry in tensors.items() if _EMBED_NAME.search(name)), None)
    if embed is None or len(embed.shape) != 2 or embed.shape[1] != hidden_size:
        found = "none" if embed is None else "x".join(map(str, embed.shape))
        raise BadCheckpoint(f"embeddings of width {hidden_size} expected, found {found}")
    head = next((entry for name, entry in tensors.items() if _HEAD_NAME.search(name)), embed)
    sizes = dict.fromkeys(range(num_blocks), 0)
    for name, entry in tensors.items():
        block_index = block_of(name)
        if block_index is not None and block_index in sizes:
            sizes[block_index] += entry.num_params
    return ModelFacts(
        family=str(config.get("model_type", "")),
        num_blocks=num_blocks,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(config, num_heads),
        head_dim=_head_dim(config, hidden_size // num_heads),
        vocab_size=embed.shape[0],
        max_positions=_number(config, "max_position_embeddings", "n_positions", "seq_length", default=2048),
        block_params=max(sizes.values()),
        embed_params=embed.num_params,
        head_params=head.num_params + hidden_size,
    )


def _num_kv_heads(config: Mapping[str, Any], num_heads: int) -> int:
    """Return the heads of keys and values that a cache keeps."""
    if config.get("model_type") in ("falcon", "gpt_bigcode"):
        # The grouped variants of Falcon (40B, 180B) repeat keys and values for every head and keep that.
        is_multi_query = config.get("multi_query", True) and not config.get("new_decoder_architecture")
        return 1 if is_multi_query else num_heads
    if "kv_lora_rank" in config:  # a latent vector is kept, from which all heads are made (DeepSeek)
        return 1
    return _number(config, "num_key_value_heads", "num_kv_heads", default=num_heads)


def _head_dim(config: Mapping[str, Any], default: int) -> int:
    """Return the width of a head of keys and of values, the mean if they differ."""
    if "kv_lora_rank" in config:
        return (_number(config, "kv_lora_rank") + _number(config, "qk_rope_head_dim")) // 2
    return _number(config, "head_dim", default=default)


def _number(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    if default is None:
        raise BadCheckpoint(f"config.json gives no {names[0]}")
    return default
