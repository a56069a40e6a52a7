"""The blocks of Llama-like models, and their head, as ONNX graphs.

A block is cut at its attention: what is before and after it treats every token alike, and takes the tokens of
many sessions stacked, `[1, tokens, width]`. Only the attention knows sessions; it holds no weights, so that
blocks of one kind of attention share its graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode.core.models import KvFormat, QuantFormat
from gridnode.engine.block_cache import BlockCache
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array
from gridnode.engine.onnx_graph import OnnxGraph
from gridnode.engine.rotary import SUPPORTED_TYPES, rotary_parameters, rotary_tables
from gridnode.paths import cache_dir

# Blocks of these are: norm, attention with rotary embeddings, norm, gated feed-forward.
FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})

_KINDS = ("key", "value")
_ATTENTION = {"qkv": ["q_proj", "k_proj", "v_proj"], "o": ["o_proj"]}
_FEED_FORWARD = {"gate_up": ["gate_proj", "up_proj"], "down": ["down_proj"]}


def unsupported_reason(checkpoint: Checkpoint) -> str | None:
    """Return why the fast path cannot run this model, or None if it can."""
    config = checkpoint.config
    family = config.get("model_type")
    if family not in FAMILIES:
        return f"the family {family!r} has no graph"
    if config.get("hidden_act", "silu") != "silu":
        return f"the activation {config['hidden_act']!r} has no graph"
    rope_type = rotary_parameters(config)["rope_type"]
    if rope_type not in SUPPORTED_TYPES:
        return f"rotary scaling {rope_type!r} has no table"
    if config.get("partial_rotary_factor", 1.0) != 1.0:
        return "rotary embeddings of a part of each head have no graph"
    kinds = set(config.get("layer_types") or ["full_attention"])
    if kinds != {"full_attention"} and kinds != {"sliding_attention"}:
        return "blocks with different kinds of attention have no graph"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """What the attentions of blocks may differ in."""

    window: int | None
    """Tokens that a token sees, itself not counted; None is all."""

    kv: KvFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBuilder:
    """Makes the graphs of one checkpoint."""

    checkpoint: Checkpoint
    quantization: QuantFormat
    kv: KvFormat
    max_positions: int
    """Rows of the rotary tables: the longest session and its padding."""

    def attention(self, block_index: int) -> Attention:
        """Return the kind of attention of a block."""
        kinds = self.checkpoint.config.get("layer_types") or []
        window = self.checkpoint.config.get("sliding_window")
        uses_window = "sliding_attention" in kinds or self.checkpoint.config.get("model_type") == "mistral"
        return Attention(window=int(window) if window and uses_window else None, kv=self.kv)

    def before_attention_graph(self, block_index: int) -> OnnxGraph:
        """Return the first part of a block: `hidden` in, `qkv` out (queries, keys and values, packed)."""
        graph = OnnxGraph(folder=cache_dir())
        prefix = f"model.layers.{block_index}."
        normed, _ = self._norm(graph, self._hidden_input(graph), "", f"{prefix}input_layernorm.weight")
        qkv = self._block_products(graph, block_index)(normed, "qkv")
        qkv = self._with_head_norms(graph, qkv, prefix)
        graph.name_output(qkv, "qkv", "float32", [1, "tokens", self.qkv_width])
        return graph

    def attention_graph(self, attention: Attention) -> OnnxGraph:
        """Return an attention: `qkv` of new tokens of one session and its KV buffers in, `attended` out.

        Inputs beside them: `padding` `[6]` (of `Pad`: rows that the attention gets behind the tokens),
        `num_tokens` `[1]`, `total_tokens` `[1]` (tokens in the cache after the step and its padding) and
        `seqlens_k` `[1]` (one less). `key` and `value`, `[1, kv_heads, max_tokens, head_dim]`, are written in
        place; if they are int8, `key_scale` and `value_scale` are inputs as well (see `kv_scales`).
        """
        facts = self.checkpoint.facts
        graph = OnnxGraph(folder=cache_dir())
        qkv = graph.add_input("qkv", "float32", [1, "tokens", self.qkv_width])
        graph.add_input("padding", "int64", [6])
        graph.add_input("num_tokens", "int64", [1])
        graph.add_input("seqlens_k", "int32", [1])
        graph.add_input("total_tokens", "int32", [1])
        kv_shape: list[int | str] = [1, facts.num_kv_heads, "max_tokens", facts.head_dim]
        kv_type = "int8" if attention.kv == "int8" else "float32"
        for kind in _KINDS:
            graph.add_input(kind, kv_type, kv_shape)
        cosines, sines = rotary_tables(
            rotary_parameters(self.checkpoint.config),
            head_dim=facts.head_dim,
            num_positions=self.max_positions,
        )
        graph.constant("cosines", cosines)
        graph.constant("sines", sines)
        graph.constant("first_token", np.array([0], dtype=np.int64))
        graph.constant("tokens_axis", np.array([1], dtype=np.int64))
        attributes: dict[str, Any] = {}
        if attention.window is not None:
            attributes["local_window_size"] = attention.window
        scales: list[str] = []
        if attention.kv == "int8":
            attributes |= {
                "k_quant_type": "PER_CHANNEL",
                "v_quant_type": "PER_CHANNEL",
                "kv_cache_bit_width": 8,
            }
            scale_shape = [facts.num_kv_heads, 1, facts.head_dim]
            # Left out before them: position ids, a bias, sinks.
            scales = ["", "", "", *(graph.add_input(f"{k}_scale", "float32", scale_shape) for k in _KINDS)]
        [padded] = graph.add("Pad", [qkv, "padding"])
        attended, new_key, new_value = graph.add(
            "GroupQueryAttention",
            [padded, "", "", "key", "value", "seqlens_k", "total_tokens", "cosines", "sines", *scales],
            num_outputs=3,
            contrib=True,
            num_heads=facts.num_heads,
            kv_num_heads=facts.num_kv_heads,
            do_rotary=1,
            **attributes,
        )
        graph.name_output(new_key, "new_key", kv_type, kv_shape)
        graph.name_output(new_value, "new_value", kv_type, kv_shape)
        [attended] = graph.add("Slice", [attended, "first_token", "num_tokens", "tokens_axis"])
        graph.name_output(attended, "attended", "float32", [1, "tokens", self.attended_width])
        return graph

    def after_attention_graph(self, block_index: int) -> OnnxGraph:
        """Return the last part of a block: `hidden` and `attended` in, `result` out."""
        graph = OnnxGraph(folder=cache_dir())
        prefix = f"model.layers.{block_index}."
        hidden = self._hidden_input(graph)
        attended = graph.add_input("attended", "float32", [1, "tokens", self.attended_width])
        products = self._block_products(graph, block_index)
        normed, residual = self._norm(
            graph, hidden, products(attended, "o"), f"{prefix}post_attention_layernorm.weight"
        )
        gate, up = self._halves(graph, products(normed, "gate_up"), block_index)
        [sigmoid] = graph.add("Sigmoid", [gate])
        [activated] = graph.add("Mul", [gate, sigmoid])
        [gated] = graph.add("Mul", [activated, up])
        [result] = graph.add("Add", [residual, products(gated, "down")])
        graph.name_output(result, "result", "float32", [1, "tokens", self.checkpoint.facts.hidden_size])
        return graph

    @property
    def qkv_width(self) -> int:
        """Values of one token that go into the attention."""
        facts = self.checkpoint.facts
        return (facts.num_heads + 2 * facts.num_kv_heads) * facts.head_dim

    @property
    def attended_width(self) -> int:
        """Values of one token that come out of the attention."""
        return self.checkpoint.facts.num_heads * self.checkpoint.facts.head_dim

    def norm_graph(self) -> OnnxGraph:
        """Return the graph of the final norm: `hidden` in, `normed` out."""
        graph, normed = self._final_norm()
        graph.add_output(normed, "normed", "float32", ["batch", "tokens", self.checkpoint.facts.hidden_size])
        return graph

    def head_graph(self) -> OnnxGraph:
        """Return the graph of the final norm and the head: `hidden` in, `logits` out."""
        checkpoint, facts = self.checkpoint, self.checkpoint.facts
        graph, normed = self._final_norm()
        # The head keeps 8 bits: it decides between tokens that differ little.
        bits = QuantFormat.NONE if self.quantization is QuantFormat.NONE else QuantFormat.INT8
        logits = self._product(graph, normed, "head", {"head": [checkpoint.head_name]}, bits)["head"]
        graph.add_output(logits, "logits", "float32", ["batch", "tokens", facts.vocab_size])
        return graph

    def _final_norm(self) -> tuple[OnnxGraph, str]:
        graph = OnnxGraph(folder=cache_dir())
        hidden = graph.add_input("hidden", "float32", ["batch", "tokens", self.checkpoint.facts.hidden_size])
        normed, _ = self._norm(graph, hidden, "", self.checkpoint.norm_name)
        return graph, normed

    def _hidden_input(self, graph: OnnxGraph) -> str:
        return graph.add_input("hidden", "float32", [1, "tokens", self.checkpoint.facts.hidden_size])

    def _block_products(self, graph: OnnxGraph, block_index: int) -> Any:
        """Return a function that multiplies a value with one of the block's matrices, and adds its bias."""
        prefix = f"model.layers.{block_index}."
        parts = {m: [f"{prefix}self_attn.{p}.weight" for p in names] for m, names in _ATTENTION.items()}
        parts |= {m: [f"{prefix}mlp.{p}.weight" for p in names] for m, names in _FEED_FORWARD.items()}
        stored = None
        if self.quantization is not QuantFormat.NONE:
            stored = BlockCache(self.checkpoint, self.quantization).matrices(f"block-{block_index}", parts)

        def product(value: str, matrix: str) -> str:
            name = f"{prefix}{matrix}"
            inputs = self.checkpoint.entry(parts[matrix][0]).shape[1]
            if stored is not None:
                bits = 4 if self.quantization is QuantFormat.INT4 else 8
                result = graph.matmul(value, name, stored[matrix], inputs=inputs, bits=bits)
            else:
                result = self._exact_product(graph, value, name, parts[matrix])
            biases = [part.replace(".weight", ".bias") for part in parts[matrix]]
            if biases[0] in self.checkpoint.tensors:
                bias = graph.constant(f"{name}.bias", np.concatenate([self._float(b) for b in biases]))
                [result] = graph.add("Add", [result, bias])
            return result

        return product

    def _product(
        self, graph: OnnxGraph, value: str, key: str, parts: dict[str, list[str]], quantization: QuantFormat
    ) -> dict[str, str]:
        if quantization is QuantFormat.NONE:
            return {name: self._exact_product(graph, value, name, names) for name, names in parts.items()}
        stored = BlockCache(self.checkpoint, quantization).matrices(key, parts)
        bits = 4 if quantization is QuantFormat.INT4 else 8
        inputs = {name: self.checkpoint.entry(names[0]).shape[1] for name, names in parts.items()}
        return {
            name: graph.matmul(value, name, stored[name], inputs=inputs[name], bits=bits) for name in parts
        }

    def _exact_product(self, graph: OnnxGraph, value: str, name: str, names: list[str]) -> str:
        matrix = np.concatenate([self._float(part) for part in names])
        return graph.add("MatMul", [value, graph.shared(name, np.ascontiguousarray(matrix.T))])[0]

    def _with_head_norms(self, graph: OnnxGraph, qkv: str, prefix: str) -> str:
        """Norm the heads of queries and keys, where the family does."""
        if f"{prefix}self_attn.q_norm.weight" not in self.checkpoint.tensors:
            return qkv
        facts = self.checkpoint.facts
        query_size, kv_size = facts.num_heads * facts.head_dim, facts.num_kv_heads * facts.head_dim
        sizes = graph.constant(f"{prefix}sizes", np.array([query_size, kv_size, kv_size], dtype=np.int64))
        query, key, value = graph.add("Split", [qkv, sizes], num_outputs=3, axis=2)
        query = self._head_norm(graph, query, f"{prefix}self_attn.q_norm.weight", query_size)
        key = self._head_norm(graph, key, f"{prefix}self_attn.k_norm.weight", kv_size)
        return graph.add("Concat", [query, key, value], axis=2)[0]

    def _head_norm(self, graph: OnnxGraph, value: str, name: str, size: int) -> str:
        """Norm each head by itself (Qwen3)."""
        head_dim = self.checkpoint.facts.head_dim
        apart = graph.constant(f"{name}.apart", np.array([0, 0, size // head_dim, head_dim], dtype=np.int64))
        together = graph.constant(f"{name}.together", np.array([0, 0, size], dtype=np.int64))
        [heads] = graph.add("Reshape", [value, apart])
        normed, _ = self._norm(graph, heads, "", name)
        return graph.add("Reshape", [normed, together])[0]

    def _halves(self, graph: OnnxGraph, gate_up: str, block_index: int) -> list[str]:
        size = self.checkpoint.entry(f"model.layers.{block_index}.mlp.gate_proj.weight").shape[0]
        sizes = graph.constant(f"block.{block_index}.halves", np.array([size, size], dtype=np.int64))
        return graph.add("Split", [gate_up, sizes], num_outputs=2, axis=2)

    def _norm(self, graph: OnnxGraph, residual: str, added: str, name: str) -> tuple[str, str]:
        """Return the norm of `residual + added`, and that sum."""
        epsilon = float(self.checkpoint.config["rms_norm_eps"])
        scale = graph.constant(name, self._float(name))
        if not added:
            [normed] = graph.add("SimplifiedLayerNormalization", [residual, scale], axis=-1, epsilon=epsilon)
            return normed, residual
        normed, _, _, total = graph.add(
            "SkipSimplifiedLayerNormalization",
            [residual, added, scale],
            num_outputs=4,
            contrib=True,
            epsilon=epsilon,
        )
        return normed, total

    def _float(self, name: str) -> Array:
        return self.checkpoint.read(name).astype(np.float32)
