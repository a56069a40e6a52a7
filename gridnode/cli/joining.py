"""Keeping an invitation, so that the node of this computer is in that swarm."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gridnode.cli.doctor.machine_facts import look_at_state_dir
from gridnode.cli.json_records import Joined
from gridnode.cli.showing import print_json
from gridnode.config import DEFAULT_SWARM, NodeConfig
from gridnode.config.layers import to_node_config
from gridnode.config.sources import read_sources
from gridnode.config.swarm_file import SwarmFile, given_invitation, read_link, read_link_file
from gridnode.core.invitation import MAX_LINK_CHARACTERS, Invitation
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import BadInput
from gridnode.units import format_time


def join_swarm(said: str, *, replaces: bool, as_json: bool, state_dir: Path | None) -> None:
    """Keep the invitation that `said` is, or names, and say what follows.

    Raises:
        BadInput: it is none, it has ended, or the node of this computer cannot follow it.
    """
    invitation = _read(said)
    config = to_node_config(read_sources(os.environ))
    config = replace(config, state_dir=state_dir or config.state_dir)
    file = SwarmFile(config.state_dir)
    before = file.read()
    kept = take_invitation(config, os.environ, invitation, replaces=replaces, now_s=time.time())
    is_new = before is None or before.swarm != kept.swarm
    pid, path = look_at_state_dir(config.state_dir).holder_pid, file.path
    ticket = kept.swarm.ticket
    if as_json:
        use = ticket.grant.use.value if ticket else "member"
        ends_at = format_time(ticket.grant.until_s) if ticket else None
        print_json(Joined(swarm=kept.swarm.name, use=use, ends_at=ends_at, file=str(path), running_pid=pid))
        return
    print(f"this node is {_role(kept.swarm)}; that is kept in {path}", file=sys.stderr)
    if pid and is_new:
        print(f"a node runs here (process {pid}): stop it, and start it again", file=sys.stderr)
    elif is_new:
        print("'gridnode up' takes part in it", file=sys.stderr)
    if said not in ("-", "") and not said.startswith("@") and kept.swarm.is_private:
        print(
            "the link is in the history of your shell now; next time 'gridnode join -' keeps it out",
            file=sys.stderr,
        )


def take_invitation(
    config: NodeConfig, environ: Mapping[str, str], invitation: Invitation, *, replaces: bool, now_s: float
) -> Invitation:
    """Keep `invitation` for the node with this configuration; return what it holds now.

    Raises:
        BadInput: it has ended, or the node cannot follow it.
    """
    swarm = invitation.swarm
    if swarm.ticket and now_s >= swarm.ticket.grant.until_s:
        ended = format_time(swarm.ticket.grant.until_s)
        raise BadInput(f"this invitation ended at {ended}; ask for a new one")
    if config.swarm not in (DEFAULT_SWARM, swarm.name):
        raise BadInput(
            f"the invitation is to swarm {swarm.name!r}, and the configuration names {config.swarm!r}; run "
            "'gridnode config unset swarm.name' before"
        )
    given, where = given_invitation(config, environ)
    if given is not None:
        raise BadInput(f"{where} tells this node its swarm already, and counts first; take it away before")
    file = SwarmFile(config.state_dir)
    kept = file.read()
    if kept and swarm.keys and swarm.keys[0].seed in {key.seed for key in kept.swarm.keys}:
        invitation = replace(invitation, swarm=kept.swarm)  # a member already; where to connect may be new
    elif kept and kept.swarm.keys and not replaces and not _follows(kept.swarm, swarm):
        raise BadInput(
            f"this node holds the key of swarm {kept.swarm.name!r}, and joining {swarm.name!r} forgets it; "
            "keep what 'gridnode invite' prints if you may need it again, then use '--replace'"
        )
    file.write(invitation)
    return invitation


def _follows(kept: SwarmPass, new: SwarmPass) -> bool:
    """Return whether `new` is a later key of the same swarm, as after a rotation without grace."""
    return kept.name == new.name and bool(new.keys) and new.keys[0].made_s > kept.keys[0].made_s


def _read(said: str) -> Invitation:
    if said.startswith("@"):
        return read_link_file(Path(said[1:]))
    if said != "-":
        return read_link(said, where="the invitation")
    if sys.stdin.isatty():
        print("paste the invitation, then press Enter:", file=sys.stderr)
        return read_link(sys.stdin.readline(), where="standard input")
    return read_link(sys.stdin.read(MAX_LINK_CHARACTERS + 1), where="standard input")


def _role(swarm: SwarmPass) -> str:
    name = repr(swarm.name)
    if not swarm.is_private:
        return f"in the public swarm {name}"
    if swarm.ticket is None:
        return f"a member of the private swarm {name}"
    only = "" if swarm.may_serve else ", for chatting only,"
    return f"a guest of the private swarm {name}{only} until {format_time(swarm.ticket.grant.until_s)}"
