"""Commands for people to paste, with what strangers wrote in them. Pure."""

from __future__ import annotations

import shlex


def argument(text: str) -> str:
    """Return `text` as one argument for a shell: it ends no command, breaks no line, steers no terminal."""
    return shlex.quote("".join(char if char.isprintable() else "�" for char in text))


def up_command(model: str = "", *, blocks: str = "", join: str = "") -> str:
    """Return the command that starts a node; what is empty is left out."""
    flags = {"--model": model, "--blocks": blocks, "--join": join}
    return " ".join(["gridnode up", *(f"{flag} {argument(text)}" for flag, text in flags.items() if text)])
