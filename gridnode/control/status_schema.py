"""What a node does, in JSON. Fields are added, never renamed: programs read them (`--json`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from gridnode.control.answer_schema import HopStatus
from gridnode.control.served_relay import ServedRelay

# A year: who wants a longer pause stops the node.
MAX_PAUSE_S = 366 * 86400.0
EngineStateName = Literal["none", "starting", "loading", "ready", "restarting", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """The engine worker of a node."""

    state: EngineStateName
    pid: int | None = None
    detail: str = ""
    """What it is doing, or why it failed: for people."""

    loaded_blocks: int = 0
    wanted_blocks: int = 0
    resident_bytes: int = 0
    """Resident memory of the worker process."""

    restarts: int = 0
    executor: str = ""
    dtype: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingStatus:
    """The blocks that one peer serves."""

    model: str
    manifest: str
    num_blocks: int
    start: int
    """First block."""

    end: int
    """Block behind the last one."""

    quantization: str
    has_embeddings: bool
    has_head: bool
    max_session_tokens: int
    free_cache_tokens: int
    decode_tokens_per_s: float
    """Tokens per second through the whole span, as its node measured."""

    total_cache_tokens: int = 0
    """Tokens of KV cache, leased or not; 0 if the node does not tell."""

    open_sessions: int = 0
    """Sessions in which the node is a hop, as it said last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """A link between two nodes, as one end measured it."""

    peer_id: str
    """The other end."""

    rtt_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """One node as seen from here."""

    peer_id: str
    """Base32 form of the public key."""

    short: str
    public_name: str
    version: str
    state: str
    """`joining`, `online`, `paused`, `leaving`; `unreachable` if it announces itself but no link to it
    works."""

    is_self: bool
    path: str
    """How packets reach it: `self`, `lan` on a network of this computer, `direct` beyond it, `punched`
    through holes in both sides' routers, `relay`, `websocket` (a relay by TCP), or `none`."""

    address: str
    rtt_s: float | None
    serving: ServingStatus | None
    links: tuple[LinkStatus, ...] = ()
    """Its shortest round-trip times to other nodes, as it announced them."""

    publishes_address: bool = False
    """Whether public monitors may show `address`."""

    problem: str = ""
    """Why no link to it works, if it is `unreachable`."""

    pause_reason: str = ""
    """Why it pauses, if it does, in its own words."""

    last_hop: HopStatus | None = None
    """What it did in the last answer that was asked for here: measured, not announced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model of the swarm."""

    name: str
    manifest: str
    num_blocks: int
    gaps: tuple[tuple[int, int], ...]
    """Half-open ranges of blocks that nobody serves; empty if the model answers."""

    min_replicas: int
    """Peers that serve the least served block."""

    context_tokens: int
    """Longest session that the present route takes; 0 without a route."""

    route: str
    """Route of the next session, for people; empty if there is none."""

    route_peers: tuple[str, ...] = ()
    """Full ids of the hops of `route`, in order."""

    expected_tokens_per_s: float = 0.0
    """Tokens per second of one answer along `route`, by announced speeds and links; 0 without a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatus:
    """One session in which this node is a hop."""

    short: str
    """First 8 hexadecimal digits of the session's id."""

    client: str
    """Short id of the node that asks: whoever answers there is not known here."""

    model: str
    start: int
    """First block that is used."""

    end: int
    """Block behind the last one."""

    position: int
    """Tokens that its caches hold."""

    max_tokens: int
    """Tokens of each of its rows that it leased."""

    cache_bytes: int
    """Bytes of KV cache that it leased."""

    age_s: float
    idle_s: float
    """Seconds since its last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseStatus:
    """A pause of a node: it serves no blocks meanwhile."""

    reason: str
    """Who or what asked for it, for people."""

    remaining_s: float | None
    """Seconds until it ends by itself; None if somebody has to resume, or the circumstances must change."""

    is_owners: bool = True
    """Whether `gridnode resume` ends it; otherwise it ends when the circumstances do, see `[when]` in the
    configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """Body of `POST /api/v1/pause`."""

    duration_s: Annotated[float, Meta(gt=0.0, le=MAX_PAUSE_S)] | None = None
    """How long; None until `POST /api/v1/resume`."""

    reason: Annotated[str, Meta(max_length=200)] = "its owner asked for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStatus:
    """A relay that the node was given, and uses or tries to use."""

    place: str
    """Host and port."""

    path: str
    """How packets reach it: `relay` by UDP, `websocket` by TCP, `none` if it is not registered there."""

    rtt_s: float | None = None
    observed: str = ""
    """Where it sees this node; empty if not by UDP."""

    problem: str = ""
    """Why the node is not registered there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMappingStatus:
    """How it went with the router that the node asked for a way in from the Internet."""

    router: str
    """Its address on this network."""

    protocol: str
    """`NAT-PMP` or `UPnP`; empty if it maps nothing."""

    address: str
    """Where it lets others in; empty if nowhere."""

    problem: str = ""
    """Why not; or why it did not go on, while its last word counts."""

    router_is_hidden: bool = False
    """Whether nobody on the Internet reaches the router itself, as behind another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """Answer of `GET /api/v1/status`."""

    version: str
    peer_id: str
    short: str
    public_name: str
    swarm: str
    """Its name."""

    state: str
    """`joining`, `online`, `paused`, `leaving`."""

    uptime_s: float
    pid: int
    listen: str
    """Address of the QUIC port; may be a wildcard."""

    engine: EngineStatus
    open_sessions: int
    """Sessions that this node serves as a hop."""

    total_cache_tokens: int
    peers: tuple[PeerStatus, ...]
    """This node first."""

    models: tuple[ModelStatus, ...]

    sessions: tuple[SessionStatus, ...] = ()
    """The open sessions, oldest first."""

    running_answers: int = 0
    """Answers asked for at this node that are not finished."""

    waiting_answers: int = 0
    """Those among them that wait in line until the swarm has room."""

    open_streams: int = 0
    """Streams with other nodes and with itself: two per hop of a session, and some that come and go."""

    tasks: int = 0
    """Tasks of the event loop: more of them when nothing runs than after the start is a leak."""

    computed_prompt_tokens: int = 0
    """Tokens of prompts that this node took through its blocks since it started, replays too."""

    computed_answer_tokens: int = 0
    """Tokens of answers, likewise: the difference of two moments is a speed."""

    addresses: tuple[str, ...] = ()
    """Where other nodes reach this one; the first one is the best to tell others."""

    relays: tuple[RelayStatus, ...] = ()
    """The relays that the node uses."""

    served_relay: ServedRelay | None = None
    """The relay that it is for others, if it is one."""

    port_mapping: PortMappingStatus | None = None
    """None if no router is asked."""

    pause: PauseStatus | None = None
    """Why it serves nothing now, if its owner or the circumstances want that."""

    swarm_is_private: bool = False
    """Whether the swarm has a key, without which nobody takes part or hears of it."""

    @property
    def join_address(self) -> str:
        """What to write behind `--join` on another computer."""
        return self.addresses[0] if self.addresses else self.listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """Answer of `GET /api/v1/is_reachable/PEER`."""

    success: bool
    message: str | None = None
    """Why not."""

    your_ip: str | None
    """Address from which the question came."""

    rtt_s: float | None = None
    """Round-trip time in seconds, measured for this answer."""
