"""The `AutoDistributed` classes: models of `transformers` whose blocks run in the swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)

from gridnode.api.client_node import ANY_ADDRESS, ClientNode, local_swarm
from gridnode.api.local_ends import linear_layers, model_with_ends, put_blocks
from gridnode.api.remote_blocks import RemoteBlocks, route_wishes
from gridnode.api.remote_model import RemoteModel
from gridnode.config import DEFAULT_API
from gridnode.core.addresses import Address, parse_address
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint


class AutoDistributedConfig:
    """Reads the configuration of a model; get one with `from_pretrained`."""

    @classmethod
    def from_pretrained(cls, name: str, **overrides: Any) -> PreTrainedConfig:
        """Return the configuration of the model `name`, as the class of its architecture.

        Args:
            name: Directory of safetensors, GGUF file or Hub id.
            overrides: Fields to set.

        Raises:
            BadCheckpoint: there is no such model.
        """
        return AutoConfig.for_model(**{**open_checkpoint(name).config, **overrides})


class AutoDistributedModel:
    """Opens models of the swarm without head; make one with `from_pretrained`."""

    _auto_class: ClassVar[Any] = AutoModel

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
        routing: RouteWishes | Mapping[str, Any] = ANYWHERE,
        adapter: str = "",
        **overrides: Any,
    ) -> Any:
        """Return the model `name` as a `PreTrainedModel` of `transformers`.

        Embeddings, final norm and head are loaded here; the blocks are those of the swarm. Everything of
        `transformers` that calls the model works: generation (greedy, sampling, beams, streamers, stopping
        criteria, logits processors), batches with padding, `output_hidden_states`, caches that are cut and
        gone on with. Beside that it has `blocks` (`RemoteBlocks`), `inference_session(max_length=...)` and
        `close()`.

        Args:
            name: Directory of safetensors, GGUF file or Hub id: the same weights that the swarm serves.
            join: Addresses of peers; none takes the swarm of the node on this computer, or finds one by mDNS.
            swarm: Name of the swarm; empty is that of the node on this computer, or `home`.
            dtype: Of what is computed here.
            api: Door of the node on this computer.
            listen: Where this process listens for its peers.
            routing: Which nodes may compute: a `RouteWishes`, or its fields like `{"block": ["Ada"]}`.
            adapter: Name of a LoRA adapter that nodes of the swarm host.
            overrides: Fields of the model's configuration: `num_labels`, `pad_token_id`, ...

        Raises:
            BadCheckpoint: there is no such model.
            BadInput: the routing cannot be used.
            NoRoute: the swarm does not serve all of its blocks.
        """
        wishes = route_wishes(routing)
        checkpoint = open_checkpoint(name)
        client = _client(join, swarm=swarm, api=api, listen=listen)
        try:
            client.wait_model(checkpoint.model_id, checkpoint.facts.num_blocks)
            model, path = model_with_ends(checkpoint, cls._auto_class, dtype, **overrides)
        except BaseException:
            client.close()
            raise
        remote = RemoteModel(
            client=client,
            model=checkpoint.model_id,
            num_blocks=checkpoint.facts.num_blocks,
            hidden_size=checkpoint.facts.hidden_size,
            blocks_path=path,
            linear_layers=linear_layers(model),
        )
        blocks = RemoteBlocks(remote, Span(0, remote.num_blocks))
        blocks.routing = wishes
        if adapter:
            blocks.use_adapter(adapter)
        _connect(model, blocks)
        return model


class AutoDistributedModelForCausalLM(AutoDistributedModel):
    """Opens models of the swarm that generate text; make one with `from_pretrained`."""

    _auto_class = AutoModelForCausalLM


class AutoDistributedModelForSequenceClassification(AutoDistributedModel):
    """Opens models of the swarm that choose one of `num_labels` classes; make one with `from_pretrained`.

    The head that chooses is here, and trainable if the model comes without one.
    """

    _auto_class = AutoModelForSequenceClassification


def _client(join: str | Sequence[str], *, swarm: str, api: Address, listen: Address) -> ClientNode:
    """Return a new member of the swarm: that of the peers in `join`, or of the node on this computer."""
    peers = [join] if isinstance(join, str) else list(join)
    found, found_swarm = ((), "home") if peers else _found_here(api)
    return ClientNode(
        join=tuple(map(parse_address, peers)) or found, swarm=swarm or found_swarm, listen=listen
    )


def _found_here(api: Address) -> tuple[tuple[Address, ...], str]:
    # In a thread of its own: notebooks run an event loop in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, local_swarm(api)).result()


def _connect(model: Any, blocks: RemoteBlocks) -> None:
    """Let `model` compute its blocks in the swarm."""
    put_blocks(model, blocks)

    def begin_call(module: Any, args: tuple[Any, ...], values: dict[str, Any]) -> None:
        mask = values.get("attention_mask")
        blocks.attention_mask = mask if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None
        wants_all = values.get("output_hidden_states")
        wants_all = module.config.output_hidden_states if wants_all is None else wants_all
        blocks.between = [] if wants_all else None

    def end_call(module: Any, args: tuple[Any, ...], output: Any) -> None:
        if blocks.between is not None:
            # As transformers: what goes into every block, and what comes out of the final norm.
            output.hidden_states = (*blocks.between, output.last_hidden_state)
            blocks.between = None

    model.base_model.register_forward_pre_hook(begin_call, with_kwargs=True)
    model.base_model.register_forward_hook(end_call)
    model.__dict__["blocks"] = blocks  # no child: it has no parameters, and is in the model already
    model.inference_session = blocks.inference_session
    model.close = blocks.remote.client.close
