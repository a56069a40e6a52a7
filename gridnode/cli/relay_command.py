"""`gridnode relay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridnode.cli.options import LogLevel, LogLevelOption, option_reader
from gridnode.config.node_config import DEFAULT_RELAY_LISTEN
from gridnode.core.addresses import Address, parse_address
from gridnode.core.relays import DEFAULT_RELAY_PORT
from gridnode.net.relay_limits import RelayLimits
from gridnode.units import format_bytes, parse_bytes

_DEFAULTS = RelayLimits()
# Beside that of a node's door, which may be on the same computer.
DEFAULT_METRICS_PORT = 7340


def _size(name: str, default: int, help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        name,
        parser=option_reader(parse_bytes),
        metavar="SIZE",
        show_default=format_bytes(default),
        help=help_text,
    )
    return option


def relay(
    listen: Annotated[
        Address,
        typer.Option(
            parser=option_reader(lambda text: parse_address(text, default_port=DEFAULT_RELAY_PORT)),
            metavar="ADDRESS",
            show_default=str(DEFAULT_RELAY_LISTEN),
            help="Where nodes reach it, by UDP and by TCP; [::] takes IPv6 too.",
        ),
    ] = DEFAULT_RELAY_LISTEN,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where the identity of the relay lives.",
            show_default="~/.local/state/gridnode/relay",
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Nodes at once.")] = _DEFAULTS.nodes,
    nodes_per_address: Annotated[
        int, typer.Option(min=1, metavar="N", help="Nodes at once from one address (IPv6: one /64 network).")
    ] = _DEFAULTS.nodes_per_address,
    node_rate: Annotated[
        int, _size("--node-rate", _DEFAULTS.node_bytes_per_s, "Per second, for what one node sends.")
    ] = _DEFAULTS.node_bytes_per_s,
    total_rate: Annotated[
        int, _size("--total-rate", _DEFAULTS.total_bytes_per_s, "Per second, for what all nodes send.")
    ] = _DEFAULTS.total_bytes_per_s,
    metrics: Annotated[
        Address | None,
        typer.Option(
            parser=option_reader(lambda text: parse_address(text, default_port=DEFAULT_METRICS_PORT)),
            metavar="ADDRESS",
            show_default=False,
            help="Answer /metrics (for Prometheus) and /health here; who reaches it needs no key.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what it does, one JSON object a line, to stdout.")
    ] = False,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Run a relay: nodes behind routers meet here, and reach each other through it until Ctrl-C.

    It runs no model, sees no prompt and no answer: what it forwards is encrypted between the nodes.
    It wants a public address. Name it to nodes with 'gridnode up --relay HOST'.

    [bold]Examples[/]

      gridnode relay
      gridnode relay --listen '[::]:443' --node-rate 500KiB
      gridnode relay --metrics 127.0.0.1
    """
    from gridnode.cli.relay_running import run_relay

    limits = RelayLimits(
        nodes=nodes,
        nodes_per_address=nodes_per_address,
        node_bytes_per_s=node_rate,
        total_bytes_per_s=total_rate,
    )
    run_relay(listen, state_dir, limits, metrics=metrics, as_json=as_json, log_level=log_level)
