"""`gridnode up`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gridnode.cli.options import (
    LogLevel,
    read_address,
    read_api,
    read_bytes,
    read_span,
)
from gridnode.config import DEFAULT_API, DEFAULT_LISTEN, DEFAULT_SWARM, NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.errors import BadInput

_MODEL = "What to serve"
_SWARM = "Whom to meet"
_RESOURCES = "What to use"
_DEFAULTS = {field.name: field.default for field in NodeConfig.__dataclass_fields__.values()}


class DType(StrEnum):
    """Type of what is not quantized."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Executor(StrEnum):
    """Which span executor computes."""

    AUTO = "auto"
    TORCH = "torch"
    ONNX = "onnx"


def up(
    model: Annotated[
        str | None,
        typer.Option(
            envvar="GRIDNODE_MODEL",
            metavar="PATH_OR_HUB_ID",
            help="Directory of safetensors, GGUF file or Hub id; left out, the node serves no blocks.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    blocks: Annotated[
        Span | None,
        typer.Option(
            parser=read_span,
            envvar="GRIDNODE_BLOCKS",
            metavar="START:END",
            help="Blocks to serve, END not included; left out: as many as fit, where the swarm is weakest.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    quantize: Annotated[
        QuantFormat | None,
        typer.Option(
            envvar="GRIDNODE_QUANTIZE",
            show_default=str(_DEFAULTS["quantization"]),
            help="Format of the weights in memory.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    dtype: Annotated[
        DType | None,
        typer.Option(
            envvar="GRIDNODE_DTYPE",
            show_default=str(_DEFAULTS["dtype"]),
            help="Type of what is not quantized.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    executor: Annotated[
        Executor | None,
        typer.Option(
            envvar="GRIDNODE_EXECUTOR",
            show_default=str(_DEFAULTS["executor"]),
            help="What computes.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    join: Annotated[
        list[Address] | None,
        typer.Option(
            parser=read_address,
            envvar="GRIDNODE_JOIN",
            metavar="ADDRESS",
            help="Node of the swarm to connect to first; may be repeated.",
            rich_help_panel=_SWARM,
        ),
    ] = None,
    listen: Annotated[
        Address | None,
        typer.Option(
            parser=read_address,
            envvar="GRIDNODE_LISTEN",
            metavar="ADDRESS",
            show_default=str(DEFAULT_LISTEN),
            help="Where other nodes reach this one (UDP); port 0 takes a free one.",
            rich_help_panel=_SWARM,
        ),
    ] = None,
    swarm: Annotated[
        str | None,
        typer.Option(
            envvar="GRIDNODE_SWARM",
            show_default=DEFAULT_SWARM,
            help="Name of the swarm; nodes of others are refused.",
            rich_help_panel=_SWARM,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(envvar="GRIDNODE_NAME", help="Public name, shown to others.", rich_help_panel=_SWARM),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=read_bytes,
            envvar="GRIDNODE_MEMORY",
            metavar="SIZE",
            show_default="3/4 of what is free",
            help="Memory for weights and KV cache, like 4GiB.",
            rich_help_panel=_RESOURCES,
        ),
    ] = None,
    cache_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="GRIDNODE_CACHE_TOKENS",
            show_default=str(_DEFAULTS["cache_tokens"]),
            help="Tokens of KV cache, shared by all sessions.",
            rich_help_panel=_RESOURCES,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="GRIDNODE_THREADS",
            show_default="one per core",
            help="Threads that compute.",
            rich_help_panel=_RESOURCES,
        ),
    ] = None,
    api: Annotated[
        Address | None,
        typer.Option(
            parser=read_api,
            envvar="GRIDNODE_API",
            metavar="ADDRESS",
            show_default=str(DEFAULT_API),
            help="Where the door listens (HTTP, this computer only); port 0 takes a free one.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="GRIDNODE_STATE_DIR",
            show_default="~/.local/state/gridnode",
            help="Where the identity lives; a second node on one computer needs its own.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what happens, one JSON object a line, to stdout.")
    ] = False,
    stop_with_stdin: Annotated[
        bool, typer.Option("--stop-with-stdin", help="Stop when standard input ends.", hidden=True)
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            envvar="GRIDNODE_LOG_LEVEL",
            show_default="warning on a terminal, else info",
            help="Least level that is logged to stderr.",
        ),
    ] = None,
) -> None:
    """Start a node: find its peers, take a share of the model's blocks, serve them until Ctrl-C.

    [bold]Examples[/]

      gridnode up --model HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode up --model ./SmolLM2.gguf --blocks 0:10
      gridnode up --model ./SmolLM2.gguf --join 192.0.2.7 --listen 0.0.0.0
      gridnode up --join 192.0.2.7        [dim]# serve nothing, ask others[/]
    """
    from gridnode.cli.serving import serve

    given: dict[str, Any] = {
        "model": model,
        "blocks": blocks,
        "quantization": quantize,
        "dtype": dtype and dtype.value,
        "executor": executor and executor.value,
        "join": tuple(join) if join else None,
        "listen": listen,
        "swarm": swarm,
        "public_name": name,
        "memory_bytes": memory,
        "cache_tokens": cache_tokens,
        "threads": threads,
        "api": api,
        "state_dir": state_dir,
    }
    try:
        config = NodeConfig(**{key: value for key, value in given.items() if value is not None})
    except ValueError as exc:
        raise BadInput(str(exc)) from exc
    serve(config, as_json=as_json, stop_with_stdin=stop_with_stdin, log_level=log_level)
