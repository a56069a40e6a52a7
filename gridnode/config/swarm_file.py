"""Where a node keeps what it holds of its swarm, and where it is given it.

A key never comes from the command line alone, which every user of a computer can read: it comes from a
variable, a file, a credential of systemd, or from what `gridnode join` and `gridnode invite` kept.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from gridnode.config.node_config import DEFAULT_SWARM, NodeConfig
from gridnode.core.invitation import MAX_LINK_CHARACTERS, Invitation, from_link
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import BadInput, reason
from gridnode.paths import write_atomically
from gridnode.units import format_time

logger = logging.getLogger("gridnode.config.swarm_file")

SWARM_FILE = "swarm.json"
KEY_VARIABLE = "GRIDNODE_SWARM_KEY"
"""Holds an invitation."""

CREDENTIAL = "gridnode-swarm"
"""Name of the credential of systemd that holds one: `LoadCredential=gridnode-swarm:/etc/gridnode/swarm`."""

_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


class SwarmFile:
    """What is kept in the state directory of a node; other processes may change it at any time."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / SWARM_FILE
        self._seen = self._stamp()

    def read(self) -> Invitation | None:
        """Return what is kept, or None if nothing is.

        Raises:
            BadInput: the file cannot be read, or others than its owner may read it.
        """
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                data = file.read()
            if mode & 0o077:
                raise BadInput(
                    f"{self.path} holds the key of a swarm and has mode {mode:04o}: others may have read it; "
                    f"run 'chmod 600 {self.path}', and, unless you are sure that nobody did, also 'gridnode "
                    "invite --rotate'"
                )
            return msgspec.json.decode(data, type=Invitation)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError, ValueError) as exc:
            raise BadInput(
                f"what this node holds of its swarm cannot be read from {self.path}: {exc}; restore it, or "
                "delete it and join again with a new invitation"
            ) from exc

    def write(self, kept: Invitation) -> None:
        """Keep this instead.

        Raises:
            BadInput: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, msgspec.json.encode(kept) + b"\n", mode=0o600)
        except OSError as exc:
            raise BadInput(f"cannot write {self.path}: {exc.strerror or exc}") from exc

    def reread(self, present: SwarmPass) -> SwarmPass | None:
        """Return what is kept if that has changed since the last look, and a running node can take it over.

        Args:
            present: What the node holds now. A newer key of the same swarm can be taken over; for another
                swarm it has to be started again.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            kept = self.read()
        except BadInput as exc:
            logger.error("%s", exc)
            return None
        if kept is None or kept.swarm == present:
            return None
        if kept.swarm.name == present.name and set(present.keys[:1]) & set(kept.swarm.keys):
            return kept.swarm
        logger.warning("%s tells of another swarm; it counts from the next start on", self.path)
        return None

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def maps_port(config: NodeConfig, invitation: Invitation) -> bool:
    """Return whether a node asks its router for a way in from the Internet.

    Unless somebody says so, it does not where that would only let strangers in who guess the name of a swarm.
    """
    if config.port_mapping is not None:
        return config.port_mapping
    return bool(config.relay or invitation.relays or invitation.swarm.is_private)


def find_swarm(
    config: NodeConfig, environ: Mapping[str, str], *, wall_s: Callable[[], float] = time.time
) -> Invitation:
    """Return what a node with this configuration holds of its swarm.

    What is given counts, unless it is a key that was replaced since: then what is kept does.

    Raises:
        BadInput: it cannot be read, has ended, or does not go with the configuration.
    """
    given, where = given_invitation(config, environ)
    file = SwarmFile(config.state_dir)
    kept = file.read()
    if given is None:
        found, where = kept, str(file.path)
    elif kept and kept.swarm.name == given.swarm.name and _is_older(given.swarm, kept.swarm):
        found = replace(given, swarm=kept.swarm)
    else:
        found = given
    if found is None:
        try:
            return Invitation(swarm=SwarmPass(name=config.swarm))
        except ValueError as exc:
            raise BadInput(str(exc)) from exc
    if config.swarm not in (DEFAULT_SWARM, found.swarm.name):
        raise BadInput(
            f"{where} is for swarm {found.swarm.name!r}, and the configuration names {config.swarm!r}; leave "
            "the name out, or use another '--state-dir'"
        )
    if config.model and not found.swarm.may_serve:
        raise BadInput(
            f"the invitation to swarm {found.swarm.name!r} in {where} is for chatting only: nobody would use "
            f"the blocks of {config.model}; start without '--model', or ask for an invitation to serve"
        )
    ticket = found.swarm.ticket
    if ticket and wall_s() >= ticket.grant.until_s:
        raise BadInput(
            f"the invitation to swarm {found.swarm.name!r} in {where} ended at "
            f"{format_time(ticket.grant.until_s)}; ask a member for a new one ('gridnode invite'), and give "
            "it to 'gridnode join'"
        )
    return found


def given_invitation(config: NodeConfig, environ: Mapping[str, str]) -> tuple[Invitation | None, str]:
    """Return what a variable, a file or a credential gives, and which of them; None if none does.

    Raises:
        BadInput: it is no invitation.
    """
    if environ.get(KEY_VARIABLE):
        return read_link(environ[KEY_VARIABLE], where=KEY_VARIABLE), KEY_VARIABLE
    if config.swarm_key_file is not None:
        return read_link_file(config.swarm_key_file), str(config.swarm_key_file)
    credentials = environ.get(_CREDENTIALS_VARIABLE)
    path = Path(credentials or "/nonexistent") / CREDENTIAL
    return (read_link_file(path), str(path)) if credentials and path.exists() else (None, "")


def read_link(text: str, *, where: str) -> Invitation:
    """Return the invitation that `text` is.

    Raises:
        BadInput: it is none.
    """
    try:
        return from_link(text)
    except ValueError as exc:
        raise BadInput(f"{where}: {exc}") from exc


def read_link_file(path: Path) -> Invitation:
    """Return the invitation in a file that holds nothing else.

    Raises:
        BadInput: there is none in it.
    """
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(MAX_LINK_CHARACTERS + 1).decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"cannot read an invitation from {path}: {reason(exc)}") from exc
    return read_link(text, where=str(path))


def _is_older(given: SwarmPass, kept: SwarmPass) -> bool:
    return bool(given.keys) and given.keys[0].seed in {key.seed for key in kept.keys}
