"""The commands of gridnode, put together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec

import typer

from gridnode.cli import bench_commands, config_commands, keys_commands, service_commands
from gridnode.cli.chat_command import chat
from gridnode.cli.completion_command import completion
from gridnode.cli.demo_command import demo
from gridnode.cli.doctor_command import doctor
from gridnode.cli.ending import ending
from gridnode.cli.invite_command import invite
from gridnode.cli.join_command import join
from gridnode.cli.list_command import list_models
from gridnode.cli.logs_command import logs
from gridnode.cli.models_command import models
from gridnode.cli.monitor_command import monitor
from gridnode.cli.pause_commands import down, pause, resume
from gridnode.cli.peers_command import peers
from gridnode.cli.ping_command import ping
from gridnode.cli.ps_command import ps
from gridnode.cli.pull_command import pull
from gridnode.cli.relay_command import relay
from gridnode.cli.rm_command import rm
from gridnode.cli.run_command import run
from gridnode.cli.score_command import score
from gridnode.cli.show_command import show
from gridnode.cli.status_command import status
from gridnode.cli.top_command import top
from gridnode.cli.tune_command import tune
from gridnode.cli.up_command import up
from gridnode.cli.version_command import version

P = ParamSpec("P")

_EPILOG = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 no node is running, 4 not ready yet, 5 no capacity, "
    "6 not authentic, 130 interrupted. Data goes to stdout, everything for people to stderr."
)


_COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "The node": {
        "up": up,
        "down": down,
        "pause": pause,
        "resume": resume,
        "status": status,
        "peers": peers,
        "ping": ping,
        "invite": invite,
        "join": join,
        "ps": ps,
        "doctor": doctor,
        "logs": logs,
        "top": top,
        "monitor": monitor,
        "relay": relay,
    },
    "Asking": {"run": run, "chat": chat, "score": score, "tune": tune, "demo": demo},
    "Models": {"models": models, "list": list_models, "show": show, "pull": pull, "rm": rm},
    "Settings": {"completion": completion, "version": version},
}
"""The commands by the panels of the help."""

_GROUPS: Mapping[str, tuple[str, str, Mapping[str, Callable[..., None]]]] = {
    "bench": ("Models", "Measure what a model can do on this computer.", bench_commands.COMMANDS),
    "config": ("Settings", "Look at the configuration, and change it.", config_commands.COMMANDS),
    "keys": ("Settings", "Say who may use this node from elsewhere.", keys_commands.COMMANDS),
    "service": ("Settings", "Run gridnode as a service of systemd.", service_commands.COMMANDS),
}
"""Commands behind one word: the panel, what they are for, and each."""


def create_app() -> typer.Typer:
    """Return the command line; call it to run it."""
    app = typer.Typer(
        name="gridnode",
        help="Run large language models on the computers you already own, together.",
        epilog=_EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for panel, commands in _COMMANDS.items():
        for name, command in commands.items():
            app.command(name, rich_help_panel=panel)(_ended(command))
    for name, (panel, text, group) in _GROUPS.items():
        app.add_typer(_group(text, group), name=name, rich_help_panel=panel)
    return app


def _group(text: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """Return commands that stand behind one word."""
    group = typer.Typer(help=text, no_args_is_help=True)
    for name, command in commands.items():
        group.command(name)(_ended(command))
    return group


def _ended(command: Callable[P, None]) -> Callable[P, None]:
    """Return `command` with every failure turned into our exit codes, before typer applies its own."""

    @functools.wraps(command)
    def run_command(*args: P.args, **kwargs: P.kwargs) -> None:
        with ending():
            command(*args, **kwargs)

    return run_command
