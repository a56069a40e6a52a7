"""A made-up swarm of three nodes with a gap: one is joining, one has a name like markup."""

from __future__ import annotations

from dataclasses import replace

from fake_node import STATUS

from gridnode.control.status_schema import PeerStatus, SessionStatus

ME = STATUS.peers[0]
assert ME.serving is not None
SERVING = replace(ME.serving, total_cache_tokens=8000)


def peer(letter: str, name: str, start: int, end: int, **fields: object) -> PeerStatus:
    serving = replace(SERVING, start=start, end=end)
    return replace(
        ME,
        peer_id=letter * 52,
        short=letter * 8,
        public_name=name,
        is_self=False,
        path="direct",
        rtt_s=0.0012,
        serving=serving,
        **fields,  # type: ignore[arg-type]
    )


SWARM = replace(
    STATUS,
    total_cache_tokens=8000,
    peers=(
        replace(ME, public_name="[b]Ada", serving=replace(SERVING, end=10)),
        peer("b", "Bo", 20, 25),
        peer("c", "Cem", 10, 20, state="joining"),
    ),
    models=(replace(STATUS.models[0], gaps=((10, 20), (25, 30)), min_replicas=0, route=""),),
    sessions=(
        SessionStatus(
            short="62bfd518",
            client="bbbbbbbb",
            model="tiny",
            start=0,
            end=10,
            position=812,
            max_tokens=1000,
            cache_bytes=9_000_000,
            age_s=61.0,
            idle_s=0.2,
        ),
    ),
)
