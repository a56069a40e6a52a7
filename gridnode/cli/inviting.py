"""Making invitations to the swarm of the node on this computer, and replacing its key."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import segno
from rich.text import Text

from gridnode.cli.doctor.machine_facts import look_at_state_dir
from gridnode.cli.doctor.swarm_facts import ask_door
from gridnode.cli.json_records import Invited
from gridnode.cli.showing import print_json, stderr
from gridnode.config import NodeConfig
from gridnode.config.layers import to_node_config
from gridnode.config.sources import read_sources
from gridnode.config.swarm_file import KEY_VARIABLE, SwarmFile, find_swarm
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import Address, parse_address
from gridnode.core.grants import Use
from gridnode.core.invitation import Invitation, for_guest, for_member, to_link
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import MAX_GRACE_S, SWARM_KEY_BYTES, SwarmKey
from gridnode.errors import BadInput
from gridnode.net.interfaces import bind_host, reachable_addresses
from gridnode.units import format_time

DAY_S = 86400.0
DEFAULT_GRACE_S = DAY_S
DEFAULT_CHAT_S = 30 * DAY_S
# Ten years: whoever shall stay for longer is a member.
MAX_LASTING_S = 3650 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What kind of invitation, and what to do before."""

    private: bool = False
    chat_only: bool = False
    lasting_s: float | None = None
    rotate: bool = False
    grace_s: float | None = None

    def __post_init__(self) -> None:
        if self.grace_s is not None and not self.rotate:
            raise BadInput("--grace goes with --rotate only")
        if self.grace_s is not None and self.grace_s > MAX_GRACE_S:
            raise BadInput(f"--grace may be {MAX_GRACE_S // DAY_S:.0f}d at most")
        if self.lasting_s is not None and not 1 <= self.lasting_s <= MAX_LASTING_S:
            raise BadInput(f"--for takes 1s to {MAX_LASTING_S // DAY_S:.0f}d")


def print_invitation(wish: Wish, *, qr: bool | None, as_json: bool, state_dir: Path | None) -> None:
    """Make an invitation and print it: the link to standard output, what people need to standard error.

    Raises:
        BadInput: this node cannot make such an invitation, or what it holds cannot be read or written.
    """
    config = to_node_config(read_sources(os.environ))
    config = replace(config, state_dir=state_dir or config.state_dir)
    status, _ = asyncio.run(ask_door(config))
    swarm, invitation = make_invitation(config, os.environ, wish, status=status, now_s=int(time.time()))
    link = to_link(invitation)
    if as_json:
        print_json(_record(swarm, invitation, link, wish))
    else:
        print(link, flush=True)
    if qr if qr is not None else sys.stderr.isatty() and not as_json:
        _print_qr(link)
    if not as_json:
        for line in _explain(config, swarm, invitation, wish):
            print(line, file=sys.stderr)


def make_invitation(
    config: NodeConfig, environ: Mapping[str, str], wish: Wish, *, status: NodeStatus | None, now_s: int
) -> tuple[SwarmPass, Invitation]:
    """Return what this node holds of its swarm then, and the invitation.

    Args:
        status: Of the node that runs here, if one does.

    Raises:
        BadInput: this node cannot make such an invitation, or what it holds cannot be read or written.
    """
    held = find_swarm(config, environ)
    if status and status.swarm_is_private and not held.swarm.is_private:
        raise BadInput(
            f"the node that runs here is in the private swarm {status.swarm!r}, and its key is not in "
            f"{config.state_dir}: give --state-dir with the state directory of that node, which is "
            f"/var/lib/gridnode for the service of the computer, or {KEY_VARIABLE} as that node was given it"
        )
    if status and not held.swarm.is_private:
        held = replace(held, swarm=SwarmPass(name=status.swarm))  # flags may have named it
    if held.swarm.ticket:
        raise BadInput(f"this node is a guest of swarm {held.swarm.name!r}: only members can invite")
    swarm = held.swarm
    if wish.private and not swarm.is_private:
        swarm = replace(swarm, keys=(_new_key(now_s, grace_s=0),))
    if not swarm.is_private and (wish.chat_only or wish.lasting_s or wish.rotate):
        raise BadInput(
            f"swarm {swarm.name!r} is public: whoever reaches one of its nodes may do everything, for good; "
            "'gridnode invite --private' makes a key for it"
        )
    if wish.rotate and swarm is held.swarm:
        grace_s = DEFAULT_GRACE_S if wish.grace_s is None else wish.grace_s
        # Also behind a clock that went backwards the new key is newer.
        swarm = swarm.with_key(_new_key(max(now_s, swarm.keys[0].made_s + 1), grace_s=int(grace_s)))
    if swarm is not held.swarm:
        SwarmFile(config.state_dir).write(replace(held, swarm=swarm))
    lasting_s = wish.lasting_s or (DEFAULT_CHAT_S if wish.chat_only else None)
    invited = for_member(swarm)
    if lasting_s:
        use = Use.CHAT if wish.chat_only else Use.SERVE
        seed = secrets.token_bytes(SWARM_KEY_BYTES)
        invited = for_guest(swarm, seed, use=use, until_s=now_s + int(lasting_s))
    return swarm, Invitation(
        swarm=invited, addresses=_addresses(config, status), relays=config.relay or held.relays
    )


def _new_key(made_s: int, *, grace_s: int) -> SwarmKey:
    return SwarmKey(seed=secrets.token_bytes(SWARM_KEY_BYTES), made_s=made_s, older_until_s=made_s + grace_s)


def _addresses(config: NodeConfig, status: NodeStatus | None) -> tuple[Address, ...]:
    """Return where the node of this computer is reached: the one that runs, or the one that will."""
    if status is not None:
        return tuple(map(parse_address, status.addresses))
    host = bind_host(config.bind) if config.bind else config.listen.host
    return reachable_addresses(Address(host, config.listen.port)) if config.listen.port else ()


def _record(swarm: SwarmPass, invitation: Invitation, link: str, wish: Wish) -> Invited:
    ticket = invitation.swarm.ticket
    return Invited(
        link=link,
        swarm=swarm.name,
        private=swarm.is_private,
        use=ticket.grant.use.value if ticket else "member",
        ends_at=format_time(ticket.grant.until_s) if ticket else None,
        old_key_until=format_time(swarm.keys[0].older_until_s) if wish.rotate else None,
    )


def _explain(config: NodeConfig, swarm: SwarmPass, invitation: Invitation, wish: Wish) -> list[str]:
    ticket, name = invitation.swarm.ticket, repr(swarm.name)
    if not swarm.is_private:
        first = f"swarm {name} is public: whoever reaches this node may join; --private makes a key for it"
    elif ticket is None:
        first = f"whoever reads this link is a member of swarm {name} for good: it holds the key"
    else:
        use = "ask swarm" if ticket.grant.use is Use.CHAT else "ask swarm, and serve blocks to,"
        first = f"whoever reads this link may {use} {name} until {format_time(ticket.grant.until_s)}"
    lines = [first, "on the other computer run 'gridnode join -', and paste it there"]
    if not invitation.addresses and not invitation.relays:
        lines.append("it names no address: the other node finds this one on the same network only")
    if wish.rotate:
        lines += _explain_rotation(swarm)
    elif wish.private and (pid := look_at_state_dir(config.state_dir).holder_pid):
        lines.append(f"the node that runs here (process {pid}) is still in the public swarm: start it again")
    return lines


def _explain_rotation(swarm: SwarmPass) -> list[str]:
    key = swarm.keys[0]
    if len(swarm.keys) < 2 or key.older_until_s <= key.made_s:
        return ["the old key counts no more: links of all other nodes end, and each needs a new invitation"]
    return [
        f"members follow to the new key by themselves until {format_time(key.older_until_s)}; guests need a "
        "new invitation by then"
    ]


def qr_text(link: str) -> str:
    """Return a QR code of `link`, light modules as blocks: for light on dark."""
    drawn = io.StringIO()
    segno.make(link, error="l", micro=False).terminal(out=drawn, compact=True, border=2)
    return drawn.getvalue()


def _print_qr(link: str) -> None:
    text = qr_text(link)
    width = max(map(len, text.splitlines()))
    console = stderr()
    if console.is_terminal and console.width < width:
        print(f"the QR code needs {width} columns, this terminal has {console.width}", file=sys.stderr)
        return
    # Scanners want dark on light, whatever the colours of the terminal are.
    console.print(Text(text, style="#ffffff on #000000"), soft_wrap=True)
