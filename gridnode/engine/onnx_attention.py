"""What the attentions of Llama-like models differ in, read from their configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gridnode.core.models import KvFormat
from gridnode.engine.rotary import rotary_parameters

# Families that use `sliding_window` in every block, if their configuration has one.
_ALWAYS_SLIDING = frozenset({"mistral", "phi3"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One kind of attention; blocks of one kind share its graph."""

    window: int | None
    """Tokens that a token sees, itself not counted; None is all."""

    rotary: tuple[tuple[str, Any], ...] | None
    """Parameters of the rotary embeddings, by name; None has no embeddings of positions."""

    softcap: float | None
    """Bound of the scores before the softmax, reached by a tanh."""

    scale: float | None
    """What scores are multiplied with; None is one through the root of the width of a head."""

    kv: KvFormat

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of ONNX Runtime's `GroupQueryAttention`."""
        found: dict[str, Any] = {
            "local_window_size": self.window,
            "softcap": self.softcap,
            "scale": self.scale,
        }
        return {name: value for name, value in found.items() if value is not None}


def attention_of(config: Mapping[str, Any], block_index: int, kv: KvFormat) -> Attention:
    """Return the kind of attention of a block."""
    kind = _kind(config, block_index)
    window = config.get("sliding_window")
    scalar = config.get("query_pre_attn_scalar", 256 if config["model_type"] in _SCALED else None)
    softcap = config.get("attn_logit_softcapping")
    return Attention(
        kv=kv,
        window=int(window) if window and kind == "sliding_attention" else None,
        rotary=_rotary(config, kind, block_index),
        softcap=float(softcap) if softcap else None,
        scale=float(scalar) ** -0.5 if scalar else None,
    )


# Gemma 2 and 3 scale scores by a number of their own, and mix blocks of two kinds: every how many is full.
_SCALED: Mapping[str, int] = {"gemma2": 2, "gemma3_text": 6}


def activation(config: Mapping[str, Any]) -> str:
    """Return the activation of the feed-forward parts, by its name in `transformers`."""
    default = "gelu_pytorch_tanh" if config["model_type"].startswith("gemma") else "silu"
    return str(config.get("hidden_activation") or config.get("hidden_act") or default)


def _kind(config: Mapping[str, Any], block_index: int) -> str:
    family = config["model_type"]
    if kinds := config.get("layer_types"):
        return str(kinds[block_index])
    if family in _SCALED:
        every = config.get("sliding_window_pattern", _SCALED[family])
        return "sliding_attention" if (block_index + 1) % every else "full_attention"
    return "sliding_attention" if family in _ALWAYS_SLIDING else "full_attention"


def _rotary(config: Mapping[str, Any], kind: str, block_index: int) -> tuple[tuple[str, Any], ...] | None:
    if config["model_type"] == "smollm3" and not _uses_rotary(config, block_index):
        return None
    found = rotary_parameters(config)
    if kind in found:  # one set of parameters for each kind of attention (Gemma 3)
        found = rotary_parameters({"rope_parameters": found[kind]})
    elif config["model_type"] == "gemma3_text" and kind == "sliding_attention":
        found = {"rope_type": "default", "rope_theta": config.get("rope_local_base_freq", 10000.0)}
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    return tuple(sorted(numbers.items()))


def _uses_rotary(config: Mapping[str, Any], block_index: int) -> bool:
    """Return whether a block of SmolLM 3 has rotary embeddings: by default three of four do."""
    if listed := config.get("no_rope_layers"):  # in which 0 says that there are none
        return bool(listed[block_index])
    return bool((block_index + 1) % config.get("no_rope_layer_interval", 4))
