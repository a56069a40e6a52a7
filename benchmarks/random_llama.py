"""A random Llama in the shape of 1B parameters: its weights have no meaning, only their shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHAPE_1B = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}
_KV_WIDTH = 512


def write_safetensors(directory: Path) -> None:
    """Write the model as `transformers` stores it, in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE_1B)).to(torch.bfloat16).save_pretrained(directory)


def write_gguf(path: Path) -> None:
    """Write one of that shape for llama.cpp: blocks in Q4_0, embeddings and head in Q8_0, no vocabulary."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    width, inner, words = (SHAPE_1B[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(SHAPE_1B["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(SHAPE_1B["num_hidden_layers"])
    writer.add_feed_forward_length(inner)
    writer.add_head_count(SHAPE_1B["num_attention_heads"])
    writer.add_head_count_kv(SHAPE_1B["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width // SHAPE_1B["num_attention_heads"])
    writer.add_vocab_size(words)
    writer.add_tokenizer_model("none")
    random = np.random.default_rng(0)

    def add(name: str, rows: int, columns: int, kind: GGMLQuantizationType) -> None:
        values = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)

    def add_norm(name: str) -> None:
        writer.add_tensor(name, np.ones(width, np.float32))

    for name in ("token_embd", "output"):
        add(f"{name}.weight", words, width, GGMLQuantizationType.Q8_0)
    add_norm("output_norm.weight")
    matrices = {
        "attn_q": (width, width),
        "attn_k": (_KV_WIDTH, width),
        "attn_v": (_KV_WIDTH, width),
        "attn_output": (width, width),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    for block_index in range(SHAPE_1B["num_hidden_layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            add_norm(f"blk.{block_index}.{norm}.weight")
        for name, (rows, columns) in matrices.items():
            add(f"blk.{block_index}.{name}.weight", rows, columns, GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
