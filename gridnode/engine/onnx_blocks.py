"""The blocks of Llama-like models, and their head, as ONNX graphs.

A block is cut at its attention: what is before and after it treats every token alike, and takes the tokens of
many sessions stacked, `[1, tokens, width]`. Only the attention knows sessions; it holds no weights, so that
blocks of one kind of attention share its graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode.core.models import KvFormat, QuantFormat
from gridnode.engine.block_cache import BlockCache
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array
from gridnode.engine.norms import GEMMAS, norm_weight
from gridnode.engine.onnx_attention import Attention, activation, attention_of
from gridnode.engine.onnx_graph import OnnxGraph
from gridnode.engine.rotary import SUPPORTED_TYPES, rotary_tables
from gridnode.paths import cache_dir

# Blocks of these are: norm, attention with rotary embeddings, norm, gated feed-forward.
FAMILIES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "gemma", "gemma2", "gemma3_text"}
)
_ACTIVATIONS = frozenset({"silu", "gelu_pytorch_tanh"})
_KINDS = ("key", "value")


def unsupported_reason(checkpoint: Checkpoint) -> str | None:
    """Return why the fast path cannot run this model, or None if it can."""
    config = checkpoint.config
    family = config.get("model_type")
    if family not in FAMILIES:
        return f"the family {family!r} has no graph"
    if activation(config) not in _ACTIVATIONS:
        return f"the activation {activation(config)!r} has no graph"
    for block_index in range(checkpoint.facts.num_blocks):
        rotary = dict(attention_of(config, block_index, "auto").rotary or ())
        if rotary.get("rope_type", "default") not in SUPPORTED_TYPES:
            return f"rotary scaling {rotary['rope_type']!r} has no table"
        if rotary.get("partial_rotary_factor", 1.0) != 1.0:
            return "rotary embeddings of a part of each head have no graph"
    if config.get("partial_rotary_factor", 1.0) != 1.0:
        return "rotary embeddings of a part of each head have no graph"
    if config.get("use_bidirectional_attention"):
        return "attention in both directions has no graph"
    return None


def embedding_scale(config: Mapping[str, Any]) -> float:
    """Return what embeddings are multiplied with before the first block."""
    return math.sqrt(config["hidden_size"]) if config.get("model_type") in GEMMAS else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBuilder:
    """Makes the graphs of one checkpoint."""

    checkpoint: Checkpoint
    quantization: QuantFormat
    kv: KvFormat
    max_positions: int
    """Rows of the rotary tables: the longest session and its padding."""

    @property
    def stack_multiple(self) -> int:
        """Of how many tokens a stack has to be a multiple, so that company changes no bit.

        ONNX Runtime takes two rows at once. With groups of 128 weights, a row that is left alone goes another
        way, which rounds differently.
        """
        return 2 if self.quantization is QuantFormat.INT4_G128 else 1

    def attention(self, block_index: int) -> Attention:
        """Return the kind of attention of a block."""
        return attention_of(self.checkpoint.config, block_index, self.kv)

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
        tables = ["", ""]
        if attention.rotary is not None:
            cosines, sines = rotary_tables(
                dict(attention.rotary), head_dim=facts.head_dim, num_positions=self.max_positions
            )
            tables = [graph.constant("cosines", cosines), graph.constant("sines", sines)]
        graph.constant("first_token", np.array([0], dtype=np.int64))
        graph.constant("tokens_axis", np.array([1], dtype=np.int64))
        attributes = attention.attributes
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
            [padded, "", "", "key", "value", "seqlens_k", "total_tokens", *tables, *scales],
            num_outputs=3,
            contrib=True,
            num_heads=facts.num_heads,
            kv_num_heads=facts.num_kv_heads,
            do_rotary=int(attention.rotary is not None),
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
        added = products(attended, "o")
        if self._norms_results:  # Gemma 2 and 3: their names say what else they norm
            added, _ = self._norm(graph, added, "", f"{prefix}post_attention_layernorm.weight")
        before = "pre_feedforward_layernorm" if self._norms_results else "post_attention_layernorm"
        normed, residual = self._norm(graph, hidden, added, f"{prefix}{before}.weight")
        gate, up = self._halves(graph, products(normed, "gate_up"), block_index)
        [gated] = graph.add("Mul", [self._activated(graph, gate), up])
        added = products(gated, "down")
        if self._norms_results:
            added, _ = self._norm(graph, added, "", f"{prefix}post_feedforward_layernorm.weight")
        [result] = graph.add("Add", [residual, added])
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
        if cap := checkpoint.config.get("final_logit_softcapping"):
            limit = graph.constant("limit", np.array(cap, dtype=np.float32))
            [share] = graph.add("Div", [logits, limit])
            [logits] = graph.add("Mul", [*graph.add("Tanh", [share]), limit])
        graph.add_output(logits, "logits", "float32", ["batch", "tokens", facts.vocab_size])
        return graph

    def _final_norm(self) -> tuple[OnnxGraph, str]:
        graph = OnnxGraph(folder=cache_dir())
        hidden = graph.add_input("hidden", "float32", ["batch", "tokens", self.checkpoint.facts.hidden_size])
        normed, _ = self._norm(graph, hidden, "", self.checkpoint.norm_name)
        return graph, normed

    def _hidden_input(self, graph: OnnxGraph) -> str:
        return graph.add_input("hidden", "float32", [1, "tokens", self.checkpoint.facts.hidden_size])

    @property
    def _norms_results(self) -> bool:
        """Whether what attention and feed-forward give is normed before it is added."""
        return self.checkpoint.config.get("model_type") in ("gemma2", "gemma3_text")

    def _activated(self, graph: OnnxGraph, gate: str) -> str:
        if activation(self.checkpoint.config) == "gelu_pytorch_tanh":
            return graph.add("Gelu", [gate], approximate="tanh")[0]
        [sigmoid] = graph.add("Sigmoid", [gate])
        return graph.add("Mul", [gate, sigmoid])[0]

    def _block_products(self, graph: OnnxGraph, block_index: int) -> Any:
        """Return a function that multiplies a value with one of the block's matrices, and adds its bias."""
        prefix = f"model.layers.{block_index}."
        is_joined = f"{prefix}self_attn.qkv_proj.weight" in self.checkpoint.tensors  # Phi-3
        qkv = ["qkv_proj"] if is_joined else ["q_proj", "k_proj", "v_proj"]
        gate_up = ["gate_up_proj"] if is_joined else ["gate_proj", "up_proj"]
        parts = {
            "qkv": [f"{prefix}self_attn.{name}.weight" for name in qkv],
            "o": [f"{prefix}self_attn.o_proj.weight"],
            "gate_up": [f"{prefix}mlp.{name}.weight" for name in gate_up],
            "down": [f"{prefix}mlp.down_proj.weight"],
        }
        stored = None
        if self.quantization is not QuantFormat.NONE:
            stored = BlockCache(self.checkpoint, self.quantization).matrices(f"block-{block_index}", parts)

        def product(value: str, matrix: str) -> str:
            name = f"{prefix}{matrix}"
            inputs = self.checkpoint.entry(parts[matrix][0]).shape[1]
            if stored is not None:
                result = graph.matmul(value, name, stored[matrix], inputs=inputs)
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
        inputs = {name: self.checkpoint.entry(names[0]).shape[1] for name, names in parts.items()}
        return {name: graph.matmul(value, name, stored[name], inputs=inputs[name]) for name in parts}

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
        size = self.checkpoint.entry(f"model.layers.{block_index}.mlp.down_proj.weight").shape[1]
        sizes = graph.constant(f"block.{block_index}.halves", np.array([size, size], dtype=np.int64))
        return graph.add("Split", [gate_up, sizes], num_outputs=2, axis=2)

    def _norm(self, graph: OnnxGraph, residual: str, added: str, name: str) -> tuple[str, str]:
        """Return the norm of `residual + added`, and that sum."""
        epsilon = float(self.checkpoint.config.get("rms_norm_eps", 1e-6))
        scale = graph.constant(name, norm_weight(self.checkpoint, name))
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
