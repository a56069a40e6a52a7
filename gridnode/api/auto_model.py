"""`AutoDistributedModelForCausalLM`: models of `transformers` whose blocks run in the swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from gridnode.api.client_node import ANY_ADDRESS, ClientNode, local_swarm
from gridnode.api.remote_blocks import RemoteBlocks, RemoteModel
from gridnode.config import DEFAULT_API
from gridnode.core.addresses import Address, parse_address
from gridnode.core.spans import Span
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.torch_span import empty_model, to_torch
from gridnode.errors import BadInput


class AutoDistributedModelForCausalLM:
    """Opens models of the swarm; make one with `from_pretrained`."""

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        join: str | Sequence[str] = (),
        swarm: str = "",
        dtype: torch.dtype = torch.float32,
        api: Address = DEFAULT_API,
        listen: Address = ANY_ADDRESS,
    ) -> Any:
        """Return the model `name` as a `PreTrainedModel` of `transformers`.

        Embeddings, final norm and head are loaded here; the blocks are those of the swarm. Everything of
        `transformers` that calls the model works: generation (greedy, sampling, beams, streamers, stopping
        criteria, logits processors), batches with padding, caches that are cut and gone on with.
        Beside that it has `blocks` (`RemoteBlocks`), `inference_session(max_length=...)` and `close()`.

        Args:
            name: Directory of safetensors, GGUF file or Hub id: the same weights that the swarm serves.
            join: Addresses of peers; none takes the swarm of the node on this computer, or finds one by mDNS.
            swarm: Name of the swarm; empty is that of the node on this computer, or `home`.
            dtype: Of what is computed here.
            api: Door of the node on this computer.
            listen: Where this process listens for its peers.

        Raises:
            BadCheckpoint: there is no such model.
            NoRoute: the swarm does not serve all of its blocks.
        """
        checkpoint = open_checkpoint(name)
        peers = [join] if isinstance(join, str) else list(join)
        found, found_swarm = asyncio.run(local_swarm(api)) if not peers else ((), "home")
        client = ClientNode(
            join=tuple(map(parse_address, peers)) or found, swarm=swarm or found_swarm, listen=listen
        )
        try:
            remote = RemoteModel(
                client=client, model=checkpoint.model_id, num_blocks=checkpoint.facts.num_blocks
            )
            client.wait_model(remote.model, remote.num_blocks)
            return _distributed(checkpoint, remote, dtype)
        except BaseException:
            client.close()
            raise


class InferenceSession(DynamicCache):
    """A cache whose keys and values are in the swarm: give it to calls as `past_key_values`."""

    @property
    def position(self) -> int:
        """Tokens that it holds; setting a lower one forgets those behind."""
        return int(self.get_seq_length())

    @position.setter
    def position(self, position: int) -> None:
        if not 0 <= position <= self.position:
            raise BadInput(f"cannot go to position {position}: the session has {self.position} tokens")
        if position < self.position:
            self.crop(position - self.position)  # a negative number removes so many


@contextmanager
def _inference_session(blocks: RemoteBlocks, *, max_length: int) -> Iterator[InferenceSession]:
    """Lease `max_length` positions for each row, and free them at the end of the block."""
    session = InferenceSession()
    before, blocks.max_tokens = blocks.max_tokens, max_length
    try:
        yield session
    finally:
        blocks.max_tokens = before
        blocks.end(session)


def _distributed(checkpoint: Checkpoint, remote: RemoteModel, dtype: torch.dtype) -> Any:
    """Return the model of `transformers` with its ends loaded and one layer: the blocks of the swarm."""
    model = empty_model(checkpoint.config, Span(0, 1), dtype)
    blocks = RemoteBlocks(remote, Span(0, remote.num_blocks))
    base = model.base_model
    base.layers = nn.ModuleList([blocks])

    def put(module: nn.Module, name: str) -> None:
        weight = to_torch(checkpoint.read(name)).to(dtype)
        module.weight = nn.Parameter(weight, requires_grad=False)

    put(model.get_input_embeddings(), checkpoint.embed_name)
    put(base.norm, checkpoint.norm_name)
    if checkpoint.head_name == checkpoint.embed_name:
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    else:
        put(model.get_output_embeddings(), checkpoint.head_name)

    def remember_padding(module: nn.Module, args: tuple[Any, ...], values: dict[str, Any]) -> None:
        mask = values.get("attention_mask")
        blocks.attention_mask = mask if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None

    model.register_forward_pre_hook(remember_padding, with_kwargs=True)
    model.blocks = blocks

    model.inference_session = partial(_inference_session, blocks)
    model.close = remote.client.close
    return model
