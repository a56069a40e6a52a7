"""`gridnode service install` and `gridnode service uninstall`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from gridnode.cli.options import LogLevel, LogLevelOption
from gridnode.cli.services import Service

ServiceArgument = Annotated[
    Service, typer.Argument(metavar="[node|relay|monitor]", help="What is to run.", show_default=False)
]
UserOption = Annotated[
    bool, typer.Option("--user", help="For you alone, without root; it runs while you are logged in.")
]
RootOption = Annotated[
    str, typer.Option("--root", metavar="DIRECTORY", help="Write below this directory and start nothing.")
]


def install(
    service: ServiceArgument = Service.NODE,
    user: UserOption = False,
    start: Annotated[bool, typer.Option(help="Start it now, and at every start of the computer.")] = True,
    root: RootOption = "",
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Run gridnode as a service of systemd.

    What it serves stands in its configuration: /etc/gridnode/config.toml for the service of the computer,
    ~/.config/gridnode/config.toml for yours. A relay and a monitor have options of their own in relay.env and
    monitor.env beside it.

    [bold]Examples[/]

      sudo gridnode service install
      gridnode service install --user
      sudo gridnode service install relay
    """
    from gridnode.cli.service_units import install_unit
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    install_unit(service, user=user, start=start, root=root)


def uninstall(
    service: ServiceArgument = Service.NODE,
    user: UserOption = False,
    root: RootOption = "",
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Stop the service and remove it. Configuration, identity and models stay."""
    from gridnode.cli.service_units import uninstall_unit
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    uninstall_unit(service, user=user, root=root)


COMMANDS: Mapping[str, Callable[..., None]] = {"install": install, "uninstall": uninstall}
