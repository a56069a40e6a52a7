"""A made-up swarm of any size: every state, uneven coverage, and peers with strange names."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fake_node import HOP, STATUS, FakeHistory

from gridnode.control.history import SAMPLE_S, Activity, ActivityKind, Sample, Work
from gridnode.control.served_relay import ServedRelay
from gridnode.control.status_schema import (
    EngineStatus,
    LinkStatus,
    ModelStatus,
    NodeStatus,
    PeerStatus,
    ServingStatus,
    SessionStatus,
)
from gridnode.core.spans import Span, coverage, gaps
from gridnode.net.relay_counters import RelayCounters

NAMES = (
    "Ada",
    "Grace",
    "https://example.org/lab",
    "Linus",
    "Annie",
    "Edsger",
    "Barbara",
    "Radia",
    "",
    "Ken",
    "Margaret",
    "Hedy",
)
HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u202c \u0007\u001b[31m",
    "javascript:window.hacked=1",
    'https://example.org/"onmouseover="window.hacked=1',
    "A" * 64,
)


class ReadPeers(tuple[PeerStatus, ...]):
    """Peers of a status that count how often somebody goes through all of them."""

    num_looks = 0

    def __iter__(self) -> Iterator[PeerStatus]:
        self.num_looks += 1
        return super().__iter__()


def peer_id(number: int) -> str:
    """Return the full id of a made-up peer."""
    digest = hashlib.sha256(str(number).encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def peer(
    number: int,
    start: int,
    end: int,
    *,
    model: str = "Llama-3.1-70B-Instruct",
    num_blocks: int = 80,
    state: str = "online",
    name: str = "",
    rng: random.Random | None = None,
) -> PeerStatus:
    """Return a peer that serves some blocks."""
    chance = rng or random.Random(number)
    total = 16384
    rtt_s = chance.choice((0.0004, 0.0031, 0.012, 0.024, 0.041, 0.087)) * chance.uniform(0.8, 1.3)
    return PeerStatus(
        peer_id=peer_id(number),
        short=peer_id(number)[:8],
        public_name=name,
        version="0.1.0",
        state=state,
        is_self=number == 0,
        path="self"
        if number == 0
        else "none"
        if state == "unreachable"
        else "lan"
        if number % 3 == 1
        else "direct",
        address="127.0.0.1:7338" if number == 0 else f"192.0.2.{number % 250 + 1}:7338",
        last_hop=replace(HOP, compute_s=0.0031, hop_s=0.0044, steps=60) if number % 3 == 0 else None,
        rtt_s=None if number == 0 or state == "unreachable" else rtt_s,
        serving=ServingStatus(
            model=model,
            manifest=hashlib.sha256(model.encode()).hexdigest(),
            num_blocks=num_blocks,
            start=start,
            end=end,
            quantization=chance.choice(("int8", "int4", "none")),
            has_embeddings=start == 0,
            has_head=end == num_blocks,
            max_session_tokens=8192,
            free_cache_tokens=int(total * chance.uniform(0.05, 1.0)),
            decode_tokens_per_s=chance.uniform(12, 90),
            total_cache_tokens=total,
            open_sessions=chance.randint(0, 5),
        ),
    )


def model(
    name: str, num_blocks: int, peers: Sequence[PeerStatus], route: Sequence[PeerStatus] = ()
) -> ModelStatus:
    """Return the state of a model that `peers` serve."""
    spans = [
        Span(p.serving.start, p.serving.end)
        for p in peers
        if p.serving and p.serving.model == name and p.state == "online"
    ]
    missing = gaps(spans, num_blocks)
    return ModelStatus(
        name=name,
        manifest=hashlib.sha256(name.encode()).hexdigest(),
        num_blocks=num_blocks,
        gaps=tuple((gap.start, gap.end) for gap in missing),
        min_replicas=min(coverage(spans, num_blocks)),
        context_tokens=0 if missing else 8192,
        route=" > ".join(f"{p.short} {p.serving.start}:{p.serving.end}" for p in route if p.serving),
        route_peers=tuple(p.peer_id for p in route),
    )


def small_swarm() -> NodeStatus:
    """Return a dozen nodes and two models; one of them has a gap."""
    spans = [(0, 20), (0, 16), (16, 40), (20, 44), (40, 60), (44, 64), (58, 80), (60, 80), (0, 10), (62, 80)]
    states = ["online"] * 8 + ["joining", "unreachable"]
    big = [peer(i, start, end, name=NAMES[i], state=states[i]) for i, (start, end) in enumerate(spans)]
    small = [
        peer(20 + i, start, end, model="SmolLM2-135M-Instruct", num_blocks=30, name=name)
        for i, (start, end, name) in enumerate([(0, 10, "Ken"), (8, 22, "Margaret")])
    ]
    leaving = peer(30, 10, 30, name="Hedy", state="leaving")
    paused = peer(32, 30, 50, name="Mary", state="paused")
    idle = replace(peer(31, 0, 1, name="Tim"), serving=None)
    peers = [*big, leaving, paused, *small, idle]
    peers = [
        replace(
            p,
            links=tuple(
                LinkStatus(peer_id=q.peer_id, rtt_s=0.001 * (1 + (i * j) % 40))
                for j, q in enumerate(peers)
                if q is not p
            ),
        )
        for i, p in enumerate(peers)
    ]
    home = peers[0]
    return replace(
        STATUS,
        peer_id=home.peer_id,
        short=home.short,
        public_name="Ada",
        peers=tuple(peers),
        models=(
            model("Llama-3.1-70B-Instruct", 80, peers, [peers[0], peers[3], peers[5], peers[6]]),
            model("SmolLM2-135M-Instruct", 30, peers),
        ),
        engine=EngineStatus(
            state="ready",
            loaded_blocks=20,
            wanted_blocks=20,
            resident_bytes=11 * 2**30,
            executor="torch",
            dtype="bfloat16",
        ),
        total_cache_tokens=16384,
        open_sessions=2,
        sessions=tuple(
            SessionStatus(
                short=f"{i:08x}",
                client=peers[i].short,
                model="Llama-3.1-70B-Instruct",
                start=0,
                end=20,
                position=900 * i,
                max_tokens=4096,
                cache_bytes=160_000_000,
                age_s=64.0 * i,
                idle_s=0.2,
            )
            for i in (1, 2)
        ),
        uptime_s=93_000.0,
        served_relay=ServedRelay(
            listen="0.0.0.0:7339",
            has_websockets=True,
            max_nodes=1024,
            counters=RelayCounters(
                udp_nodes=4,
                websocket_nodes=1,
                registrations=9,
                refused_nodes_per_address=2,
                udp_packets=80_000,
                udp_bytes=96 * 2**20,
                websocket_packets=900,
                websocket_bytes=2**20,
                dropped_node_rate=30,
                dropped_absent=1,
            ),
        ),
    )


def large_swarm(num_nodes: int) -> NodeStatus:
    """Return a swarm of `num_nodes` that serve one model of 126 blocks."""
    chance = random.Random(7)
    peers = []
    for i in range(num_nodes):
        length = chance.choice((4, 8, 12, 20))
        start = chance.randint(0, 126 - length)
        state = chance.choices(("online", "joining", "leaving", "unreachable"), (90, 5, 2, 3))[0]
        name = f"{NAMES[i % len(NAMES)]} {i}"
        peers.append(
            peer(
                i,
                start,
                start + length,
                model="Llama-3.1-405B",
                num_blocks=126,
                name=name,
                state=state if i else "online",
            )
        )
    home = peers[0]
    return replace(
        STATUS,
        peer_id=home.peer_id,
        short=home.short,
        peers=tuple(peers),
        models=(model("Llama-3.1-405B", 126, peers),),
    )


def hostile_swarm() -> NodeStatus:
    """Return a swarm whose nodes, models and versions are called by people who mean harm."""
    name = '<img src=x onerror="window.hacked=1">; rm -rf ~'
    peers = [
        replace(peer(i, 0, 10, model=name, num_blocks=10, name=text), version=text[:64])
        for i, text in enumerate(HOSTILE)
    ]
    return replace(
        STATUS,
        peer_id=peers[0].peer_id,
        swarm="<b>home</b>",
        peers=tuple(peers),
        models=(model(name, 10, peers, peers[:1]),),
    )


def lively_history(status: NodeStatus, now: float) -> FakeHistory:
    """Return a day in the life of a swarm."""
    chance = random.Random(3)
    kinds: list[tuple[ActivityKind, str]] = [
        ("joined", "joined the swarm"),
        ("serving", "serves blocks 0:20 of Llama-3.1-70B-Instruct"),
        (
            "failover",
            "dropped out of an answer, which went on along iznimxrp 0:20 > gs3mkmbd 20:44",
        ),
        ("left", "left the swarm; it served blocks 44:64 of Llama-3.1-70B-Instruct"),
        ("refused", "refused a session of gs3mkmbd: 4096 tokens of KV cache wanted, 812 free"),
        ("lost", "went silent; it served blocks 60:80 of Llama-3.1-70B-Instruct"),
        ("engine", "engine worker restarting: it was killed by signal 9; restarting in 0.5 s"),
    ]
    activities = [
        Activity(
            at=now - 240 * i * i - 4,
            kind=kinds[i % 7][0],
            peer_id=who.peer_id,
            public_name=who.public_name,
            text=kinds[i % 7][1],
            number=100 - i,
        )
        for i, who in enumerate(chance.choices(status.peers, k=24))
    ]
    sampled = {}
    for i, who in enumerate(status.peers):
        level, samples = 40.0, []
        for k in range(288):
            level = max(0.0, min(100.0, level + chance.uniform(-9, 9)))
            samples.append(
                Sample(
                    at=now - 86_400 + SAMPLE_S * k,
                    tokens=int(level * 60),
                    sessions=int(level / 15),
                    cache_use=level / 110,
                )
            )
        sampled[who.peer_id] = tuple(samples[(20 * i) % 200 :])
    worked = tuple(
        Work(
            peer_id=who.peer_id,
            public_name=who.public_name,
            block_tokens=int(9e6 / (i + 1) ** 1.7),
            first_at=now - 9e5,
            last_at=now - 60 * i,
        )
        for i, who in enumerate(status.peers)
    )
    return FakeHistory(activities=tuple(activities), sampled=sampled, worked=worked)
