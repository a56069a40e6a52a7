"""Who brings the nodes: everything that is served under one public name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gridnode.control.status_schema import PeerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributor:
    """What all nodes of one public name hold together."""

    name: str
    """Empty for those without one."""

    is_self: bool
    num_nodes: int
    num_blocks: int
    """Blocks of all online nodes; a block that two of them hold counts twice."""

    decode_tokens_per_s: float
    """Of all of them together, each for its own blocks."""


def contributors(peers: Iterable[PeerStatus]) -> list[Contributor]:
    """Return everybody who brings a node: who looks first, then by blocks held."""
    groups: dict[str, list[PeerStatus]] = {}
    for peer in peers:
        groups.setdefault(peer.public_name.strip(), []).append(peer)
    found = [_contributor(name, nodes) for name, nodes in groups.items()]
    return sorted(found, key=lambda one: (not one.is_self, -one.num_blocks, one.name == "", one.name))


def _contributor(name: str, nodes: list[PeerStatus]) -> Contributor:
    serving = [peer.serving for peer in nodes if peer.serving and peer.state == "online"]
    return Contributor(
        name=name,
        is_self=any(peer.is_self for peer in nodes),
        num_nodes=len(nodes),
        num_blocks=sum(one.end - one.start for one in serving),
        decode_tokens_per_s=sum(one.decode_tokens_per_s for one in serving),
    )
