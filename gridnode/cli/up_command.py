"""`gridnode up`."""

from __future__ import annotations

from gridnode.cli.node_options import takes_settings
from gridnode.cli.options import EventsOption, StopWithStdinOption
from gridnode.config.layers import Layer


@takes_settings
def up(
    flags: Layer,
    as_json: EventsOption = False,
    stop_with_stdin: StopWithStdinOption = False,
) -> None:
    """Start a node: find its peers, take a share of the model's blocks, serve them until Ctrl-C.

    What stands here for one start can stand in the configuration for all: 'gridnode config keys'.

    [bold]Examples[/]

      gridnode up --model HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode up --model ./SmolLM2.gguf --blocks 0:10
      gridnode up                         [dim]# serve nothing, ask the others of this network[/]
      gridnode up --join 192.0.2.7        [dim]# they are elsewhere[/]
      gridnode up --listen 127.0.0.1      [dim]# nobody else may take part[/]
    """
    from gridnode.cli.serving import serve

    serve(flags, as_json=as_json, stop_with_stdin=stop_with_stdin)
