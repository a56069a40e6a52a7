"""A small random model behind a door, and readers of its answers in the words of two dialects."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gridnode.control.answer_schema import Delta, Finished, GenerateRequest
from gridnode.control.client import ControlClient
from gridnode.core.addresses import Address

WARM_UP_TOKENS = 20
"""Tokens at the start of an answer that are not timed."""

PROMPT = "Once upon a time"
# ASCII, and `Ġ` for the blank: every token is a whole character, so that every one is in an event of its own.
LETTERS = [*map(chr, range(33, 127)), "Ġ"]

Tokens = AsyncGenerator[str, None]
Ask = Callable[[Address, int], Tokens]
"""From an address and a number of tokens to the pieces of text of one answer."""


def make_model(directory: Path) -> None:
    """Write a random Llama that never ends by itself; its compute is not the question.

    Call it in a process of its own: a process full of torch collects garbage for longer, and would make the
    bare session look slower than it is in a node.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(LETTERS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(LETTERS)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


@contextlib.contextmanager
def daemon(state_dir: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a node; yield what it told when it was ready to listen."""
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--no-mdns", "--swarm", "bench"]
    command += ["--log-level", "error", "--state-dir", str(state_dir), "--api", "127.0.0.1:0"]
    command += ["--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


async def ask_run(door: Address, num_tokens: int) -> Tokens:
    """Ask with gridnode's own client, `POST /api/v1/run`."""
    request = GenerateRequest(prompt=PROMPT, max_tokens=num_tokens)
    async with ControlClient(door) as client:
        async for event in client.run(request):
            if isinstance(event, Delta):
                yield event.text
            elif isinstance(event, Finished) and event.completion_tokens != num_tokens:
                raise RuntimeError(f"asked for {num_tokens} tokens, got {event.completion_tokens}")


async def ask_chat(door: Address, num_tokens: int) -> Tokens:
    """Ask as clients of OpenAI do, `POST /v1/chat/completions`."""
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": num_tokens,
        "stream": True,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }
    async with (
        httpx.AsyncClient(base_url=f"http://{door}", trust_env=False, verify=False, timeout=60) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            usage = chunk.get("usage")
            if usage and usage["completion_tokens"] != num_tokens:
                raise RuntimeError(f"asked for {num_tokens} tokens, got {usage['completion_tokens']}")
            for choice in chunk["choices"]:
                if choice["delta"].get("content") is not None and "role" not in choice["delta"]:
                    yield choice["delta"]["content"]


DIALECTS: dict[str, Ask] = {"/api/v1/run": ask_run, "/v1/chat/completions": ask_chat}
