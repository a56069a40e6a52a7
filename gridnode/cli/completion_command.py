"""`gridnode completion`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """Shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="Your shell.")],
) -> None:
    """Print the script with which a shell completes commands, flags and keys of the configuration.

    [bold]Examples[/]

      gridnode completion bash > ~/.local/share/bash-completion/completions/gridnode
      gridnode completion zsh > ~/.zfunc/_gridnode
      gridnode completion fish > ~/.config/fish/completions/gridnode.fish
    """
    from typer.completion import shell_complete

    shell_complete(context.find_root().command, {}, "gridnode", "_GRIDNODE_COMPLETE", f"source_{shell}")
