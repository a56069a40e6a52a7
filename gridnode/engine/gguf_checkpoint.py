"""Checkpoints in one GGUF file: names, configuration and weights in the form of `transformers`.

Quantized tensors are dequantized to float32 when they are read; those of 4 bits can be had as they are.
Format: the GGUF specification of ggml.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gridnode.engine.checkpoint import Checkpoint, TensorEntry
from gridnode.engine.executor import Array
from gridnode.engine.gguf_groups import groups_of_tensor
from gridnode.engine.manifest import file_hash
from gridnode.engine.quantization import Groups
from gridnode.errors import BadCheckpoint

# Families whose tensors differ from those of `transformers` by name and by the order of rotary rows only.
_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# ggml stores the rows of q and k of these so that rotary pairs are neighbours; transformers wants halves.
_PERMUTED_FAMILIES = frozenset({"llama", "mistral"})

_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GgufCheckpoint(Checkpoint):
    """Reads tensors out of a GGUF file, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        reader = self._reader
        config = _config(reader, path)
        self._has_chat_template = reader.get_field("tokenizer.chat_template") is not None
        licence = reader.get_field("general.license")
        self._licence = str(licence.contents()) if licence else ""
        reader.fields.clear()  # the vocabulary alone is a hundred thousand objects
        self._gguf_tensors = {_hf_name(tensor.name): tensor for tensor in reader.tensors}
        super().__init__(
            name=path.stem,
            config=config,
            tensors={
                name: TensorEntry(path.name, tuple(int(n) for n in reversed(tensor.shape)))
                for name, tensor in self._gguf_tensors.items()
            },
            file_hashes={path.name: file_hash(path)},
        )

    @cached_property
    def _reader(self) -> gguf.GGUFReader:
        try:
            return gguf.GGUFReader(str(self.path))
        # The reader checks little: a damaged file ends in whatever numpy says about it.
        except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as exc:
            size = f" ({self.path.stat().st_size} bytes)" if self.path.exists() else ""
            raise BadCheckpoint(
                f"cannot read {self.path}{size}: {exc}; the file is damaged or still being downloaded: "
                "fetch it again"
            ) from exc

    @property
    def text_dir(self) -> Path | None:
        """None: the tokenizer is inside the file, see `gridnode.engine.gguf_text`."""
        return None

    @property
    def has_chat_template(self) -> bool:
        """Whether the file holds one."""
        return self._has_chat_template

    @property
    def licence(self) -> str:
        """The licence that the file names."""
        return self._licence

    def read(self, name: str) -> Array:
        """Return a tensor as float32; see `Checkpoint.read`."""
        shape = self.entry(name).shape
        tensor = self._gguf_tensors[name]
        weights: Array = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        weights = self._in_order(name, weights)
        return np.array(weights) if weights.base is not None else weights

    def read_groups(self, name: str) -> Groups | None:
        """Return a tensor that the file holds in groups of 4 bits; see `Checkpoint.read_groups`."""
        groups = groups_of_tensor(self._gguf_tensors[name])
        if groups is None:
            return None
        parts = (groups.values, groups.scales, groups.offsets)
        return Groups(*(self._in_order(name, part) for part in parts))

    def _in_order(self, name: str, rows: Array) -> Array:
        """Return the rows of a tensor in the order of `transformers`."""
        if self.config["model_type"] in _PERMUTED_FAMILIES and ".self_attn." in name:
            if ".q_proj." in name:
                return _halves(rows, self.facts.num_heads)
            if ".k_proj." in name:
                return _halves(rows, self.facts.num_kv_heads)
        return rows


def _halves(weights: Array, num_heads: int) -> Array:
    """Return rows `[head, pair, 2]` in the order `[head, 2, pair]`: rotary halves instead of pairs."""
    pairs = weights.reshape(num_heads, weights.shape[0] // num_heads // 2, 2, *weights.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weights.shape)


def _hf_name(name: str) -> str:
    """Return the name in `transformers`."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _BLOCK_NAMES:
        return f"model.layers.{parts[1]}.{_BLOCK_NAMES[parts[2]]}.{parts[3]}"
    raise BadCheckpoint(f"tensor {name!r} of this GGUF file is not known; convert the model to safetensors")


def _config(reader: gguf.GGUFReader, path: Path) -> dict[str, Any]:
    """Return the configuration in the form of `transformers`."""

    def field(name: str, default: Any = None) -> Any:
        found = reader.get_field(name)
        return default if found is None else found.contents()

    family = field("general.architecture", "")
    if family not in _FAMILIES:
        raise BadCheckpoint(
            f"{path} holds a model of the family {family!r}; from GGUF gridnode reads "
            f"{', '.join(sorted(_FAMILIES))}: use the safetensors of this model instead"
        )
    try:
        num_heads = field(f"{family}.attention.head_count")
        hidden_size = field(f"{family}.embedding_length")
        config = {
            "model_type": family,
            "architectures": [f"{family.capitalize()}ForCausalLM"],
            "num_hidden_layers": field(f"{family}.block_count"),
            "hidden_size": hidden_size,
            "intermediate_size": field(f"{family}.feed_forward_length"),
            "num_attention_heads": num_heads,
            "num_key_value_heads": field(f"{family}.attention.head_count_kv", num_heads),
            "head_dim": field(f"{family}.attention.key_length", hidden_size // num_heads),
            "max_position_embeddings": field(f"{family}.context_length"),
            "rms_norm_eps": field(f"{family}.attention.layer_norm_rms_epsilon"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": field(f"{family}.rope.freq_base", 10000.0),
            },
            "vocab_size": len(reader.fields["tokenizer.ggml.tokens"].data),
            "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in reader.tensors),
            "bos_token_id": field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        }
    except (KeyError, TypeError, ZeroDivisionError) as exc:
        raise BadCheckpoint(f"{path} lacks metadata of a {family} model: {exc!r}") from exc
    scaling = field(f"{family}.rope.scaling.type", "none")
    if scaling != "none" or any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors):
        raise BadCheckpoint(
            f"{path} scales its rotary frequencies ({scaling}), which GGUF does not describe fully; "
            "use the safetensors of this model instead"
        )
    return config
