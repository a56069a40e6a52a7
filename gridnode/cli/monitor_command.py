"""`gridnode monitor`."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from gridnode.cli.node_options import takes_settings
from gridnode.cli.options import EventsOption, StopWithStdinOption
from gridnode.config.layers import Given, Layer

# A monitor serves no blocks, whatever the configuration of this computer's node says.
_SERVES_NOTHING = {"serve.model": Given("", "flag", "gridnode monitor")}


@functools.partial(takes_settings, sections=("swarm", "api", "node", "log"))
def monitor(
    flags: Layer,
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="Let everybody who reaches the door look, without a key. Asking still needs one."
        ),
    ] = False,
    as_json: EventsOption = False,
    stop_with_stdin: StopWithStdinOption = False,
) -> None:
    """Show a whole swarm to everybody: serve no blocks, check who can be reached, publish no addresses.

    Pages for people, /api/v1/state and /api/v1/is_reachable/PEER for programs, /metrics for Prometheus.
    Contributors who start with --publish-address are shown with their addresses.

    [bold]Examples[/]

      gridnode monitor --join 192.0.2.7
      gridnode monitor --join 192.0.2.7 --api 0.0.0.0 --api-host health.example.org --public
    """
    from gridnode.cli.serving import serve

    serve(
        {**flags, **_SERVES_NOTHING},
        as_json=as_json,
        stop_with_stdin=stop_with_stdin,
        monitors=True,
        is_public=public,
    )
