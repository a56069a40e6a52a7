"""`gridnode list`."""

from __future__ import annotations

from gridnode.cli.options import JsonOption


def list_models(as_json: JsonOption = False) -> None:
    """Show the models of the Hub on this computer's disk. 'gridnode models' shows those of the swarm.

    [bold]Examples[/]

      gridnode list
    """
    from gridnode.cli.disk_models import listed, models_table
    from gridnode.cli.showing import print_json, stdout
    from gridnode.engine.hub_cache import cached_models

    models = cached_models()
    if as_json:
        print_json(listed(models))
    else:
        stdout().print(models_table(models), soft_wrap=True)
