"""`gridnode doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridnode.cli.doctor.findings import Group
from gridnode.cli.node_options import takes_settings
from gridnode.cli.options import JsonOption
from gridnode.config.layers import Layer


@takes_settings
def doctor(
    flags: Layer,
    group: Annotated[
        Group | None,
        typer.Argument(metavar="GROUP", help="machine, network, swarm, model or service only."),
    ] = None,
    as_json: JsonOption = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            help="Write a ZIP file with the report, the configuration and the end of the log, "
            "without keys, names and addresses, to show to others.",
        ),
    ] = None,
) -> None:
    """Find out what keeps a node from working here, and what to do about it.

    Takes the options of 'gridnode up', and checks what it would meet with them. If a node runs, it is asked
    as well. Exits with 1 if something fails.

    [bold]Examples[/]

      gridnode doctor
      gridnode doctor network
      gridnode doctor --model HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode doctor --bundle report.zip
    """
    import asyncio
    import sys

    from gridnode.cli.doctor.examination import diagnose, examine, read_values
    from gridnode.cli.doctor.report import report
    from gridnode.cli.ending import FAILED
    from gridnode.cli.showing import print_json, stderr, stdout
    from gridnode.config.layers import to_node_config
    from gridnode.logs import configure_logging

    configure_logging("ERROR")
    values, problem = read_values(flags)
    config = to_node_config(values)
    facts = asyncio.run(examine(config, config_problem=problem))
    found = diagnose(facts, (group,) if group else tuple(Group))
    if as_json:
        print_json(found)
    else:
        stdout().print(report(found), soft_wrap=True, end="")
    if bundle:
        from gridnode.cli.doctor.bundle import write_bundle

        write_bundle(bundle, found, facts, values)
        stderr().print(f"written  {bundle}; look at it before you give it away", markup=False)
    if found.fails:
        sys.exit(FAILED)
