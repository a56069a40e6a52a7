"""What a node is told to do. Every key has its default, its type and its words here and nowhere else.

From this class come the keys of the configuration files, the environment variables, the flags of
`gridnode up` and their documentation: see `gridnode.config.settings`. A field without `key(...)` is
the key of its own name in the section `node`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from gridnode.config.keys import key
from gridnode.core.addresses import DEFAULT_PORT, Address
from gridnode.core.announcements import MAX_PUBLIC_NAME_CHARACTERS
from gridnode.core.hours import Hours
from gridnode.core.models import DeviceName, DTypeName, ExecutorName, KvFormat, QuantFormat
from gridnode.core.politeness import Terms
from gridnode.core.relays import DEFAULT_RELAY_PORT, parse_relay
from gridnode.core.spans import Span
from gridnode.logs import LogFormat, LogLevel
from gridnode.paths import state_dir
from gridnode.units import GIB, KIB, format_bytes

DEFAULT_API = Address("127.0.0.1", 7337)
"""Where the door listens."""

DEFAULT_LISTEN = Address("0.0.0.0", DEFAULT_PORT)
"""Where QUIC listens: on every network, so that the computers of a home find each other."""

DEFAULT_RELAY_LISTEN = Address("0.0.0.0", DEFAULT_RELAY_PORT)
"""Where relays listen."""

DEFAULT_SWARM = "home"

# Some large models in int4; a disk of a laptop has several times as much.
DEFAULT_BLOCK_CACHE_BYTES = 100 * GIB

# A piece of a long prompt is some megabytes: at less, others would take this node for one that hangs.
MIN_BANDWIDTH_BYTES_PER_S = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Configuration of one daemon."""

    model: str = field(default="", metadata=key("serve", metavar="PATH_OR_HUB_ID"))
    """Directory of safetensors, GGUF file or Hub id to serve; left out, the node serves no blocks."""

    blocks: Span | None = field(
        default=None, metadata=key("serve", unset="as many as fit, where the swarm is weakest")
    )
    """Blocks to serve, END not included."""

    quantization: QuantFormat = field(default=QuantFormat.INT8, metadata=key("serve", "quantize"))
    """Format of the blocks' weights in memory."""

    dtype: DTypeName = field(default="auto", metadata=key("serve"))
    """Type of what is not quantized; `auto` lets the executor choose."""

    device: DeviceName = field(default="cpu", metadata=key("serve"))
    """What computes the blocks: the processor, or a graphics card through torch."""

    executor: ExecutorName = field(default="auto", metadata=key("serve"))
    """What computes; `auto` is onnx on CPUs where it knows the family."""

    kv: KvFormat = field(default="auto", metadata=key("serve"))
    """Format of keys and values of sessions; `int8` takes a quarter of the memory, on onnx only."""

    draft_model: str = field(default="", metadata=key("serve", metavar="PATH_OR_HUB_ID"))
    """Small model that proposes tokens of the answers asked at this node; it must have the same tokens."""

    adapters: tuple[str, ...] = field(
        default=(), metadata=key("serve", flag="--adapter", metavar="PATH_OR_HUB_ID")
    )
    """LoRA adapter in the format of PEFT that sessions may choose; it needs the executor torch."""

    join: tuple[Address, ...] = field(default=(), metadata=key("swarm"))
    """Nodes of the swarm to connect to first."""

    relay: tuple[str, ...] = field(default=(), metadata=key("swarm", metavar="HOST[:PORT]"))
    """Relay where nodes of the swarm on the Internet meet, and reach each other behind routers; ID@ before
    the host takes only the relay with this id."""

    serve_relay: Address | None = field(
        default=None, metadata=key("swarm", unset=f"no relay; {DEFAULT_RELAY_LISTEN} is usual")
    )
    """Where to be a relay for others too, by UDP and TCP: for computers with a public address."""

    guess_ports: bool = field(default=False, metadata=key("swarm"))
    """Whether to find ways past symmetric routers by chance: up to 2000 probes to random ports of a peer
    that allows it, too. Networks may take that for an attack."""

    listen: Address = field(default=DEFAULT_LISTEN, metadata=key("swarm"))
    """Where other nodes reach this one (UDP, QUIC): on all networks, or at one address; `[::]` takes
    IPv6 too, port 0 a free one."""

    bind: str = field(
        default="",
        metadata=key("swarm", metavar="ADDRESS|INTERFACE", shown_default="all that --listen stands for"),
    )
    """The only network interface to use, like eth0 or 192.168.1.7."""

    mdns: bool = field(default=True, metadata=key("swarm"))
    """Whether to find the nodes of the same swarm on this network, and to be found by them."""

    port_mapping: bool | None = field(
        default=None, metadata=key("swarm", unset="in a private swarm, and where there is a relay")
    )
    """Whether to ask the router of this network, by NAT-PMP or UPnP, to let others on the Internet in."""

    swarm: str = field(default=DEFAULT_SWARM, metadata=key("swarm", "name", flag="--swarm"))
    """Name of the swarm; nodes of other swarms are refused. Of a private swarm, its invitation says it."""

    swarm_key_file: Path | None = field(
        default=None,
        metadata=key("swarm", "key_file", flag="--swarm-key-file", unset="what 'gridnode join' kept"),
    )
    """File with an invitation to a private swarm, for services and containers."""

    memory_bytes: int | None = field(
        default=None, metadata=key("limits", "memory", unset="3/4 of what is free at the start")
    )
    """Memory for weights and KV cache."""

    cache_tokens: int = field(default=8192, metadata=key("limits"))
    """Tokens of KV cache over the whole span, shared by all sessions."""

    block_cache_bytes: int = field(default=DEFAULT_BLOCK_CACHE_BYTES, metadata=key("limits", "block_cache"))
    """Disk for quantized blocks, kept so that the next start is quick; models used longest ago go first."""

    threads: int | None = field(default=None, metadata=key("limits", unset="one per core"))
    """Threads of the engine worker."""

    sessions: int = field(default=256, metadata=key("limits", live=True))
    """Sessions that this node serves at once; more are refused."""

    session_ttl_s: float = field(default=1800.0, metadata=key("limits", "session_ttl"))
    """How long a session may send nothing before its KV cache is given to others."""

    bandwidth_bytes_per_s: int | None = field(
        default=None, metadata=key("limits", "bandwidth", unset="no limit", live=True)
    )
    """What the blocks here may send to other nodes; a link to the Internet is often slower that way."""

    drain_s: float = field(default=30.0, metadata=key("limits", "drain", flag="--drain", live=True))
    """How long to wait at the end for sessions to move to other nodes."""

    hours: tuple[Hours, ...] = field(default=(), metadata=key("when", shown_default="always", live=True))
    """Serve in these hours of the day only, by the clock of this computer."""

    idle_s: float | None = field(
        default=None, metadata=key("when", "idle", unset="also while it is used", live=True)
    )
    """Serve only when nobody has used this computer for so long."""

    on_mains: bool = field(default=False, metadata=key("when", live=True))
    """Serve on mains only, not on battery."""

    below_celsius: float | None = field(
        default=None, metadata=key("when", metavar="DEGREES", unset="at any temperature", live=True)
    )
    """Serve only while the processor is cooler than this."""

    api: Address = field(default=DEFAULT_API, metadata=key("api", "address", flag="--api"))
    """Where the door listens (HTTP); other computers need a key; port 0 takes a free one."""

    api_hosts: tuple[str, ...] = field(
        default=(), metadata=key("api", "hosts", flag="--api-host", metavar="NAME")
    )
    """Name under which the door is addressed, beside the addresses and the name of this computer."""

    api_origins: tuple[str, ...] = field(
        default=(), metadata=key("api", "origins", flag="--api-origin", metavar="ORIGIN")
    )
    """Origin, like https://chat.example.org, whose web pages may use the door."""

    api_proxies: tuple[str, ...] = field(
        default=(), metadata=key("api", "proxies", flag="--api-proxy", metavar="ADDRESS")
    )
    """Proxy, or network of proxies, before the door: whom it names in X-Forwarded-For is the one who asks."""

    api_require_key: bool = field(default=False, metadata=key("api", "require_key", flag="--api-require-key"))
    """Whether this computer needs a key too: for computers of several people, or behind a proxy on them."""

    public_name: str = field(default="", metadata=key("node", "name", metavar="NAME", live=True))
    """Public name, shown to others as the contributor."""

    publish_address: bool = field(default=False, metadata=key("node"))
    """Whether public monitors may show where this node is reached; peers of the swarm know it anyway."""

    state_dir: Path = field(
        default_factory=state_dir, metadata=key("node", shown_default="~/.local/state/gridnode")
    )
    """Where the identity and the log live; a second node on one computer needs its own."""

    log_level: LogLevel | None = field(
        default=None,
        metadata=key(
            "log", "level", flag="--log-level", live=True, unset="warning on a terminal, info elsewhere"
        ),
    )
    """Least level that is logged."""

    log_format: LogFormat = field(default=LogFormat.HUMAN, metadata=key("log", "format", flag="--log-format"))
    """Form of the log on stderr: lines for people, or one JSON object a line."""

    log_prompts: bool = field(default=False, metadata=key("log", "prompts", flag="--log-prompts"))
    """Write prompts and answers to the log; otherwise they are never in it."""

    @property
    def terms(self) -> Terms:
        """When the node may serve."""
        return Terms(
            hours=self.hours, idle_s=self.idle_s, on_mains=self.on_mains, below_celsius=self.below_celsius
        )

    def __post_init__(self) -> None:
        for relay in self.relay:
            parse_relay(relay)
        if len(self.public_name) > MAX_PUBLIC_NAME_CHARACTERS:
            raise ValueError(f"the public name may have {MAX_PUBLIC_NAME_CHARACTERS} characters")
        counts = {"cache_tokens": self.cache_tokens, "sessions": self.sessions, "threads": self.threads}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if self.session_ttl_s <= 0:
            raise ValueError(f"session_ttl must be more than 0 s, got {self.session_ttl_s:g}")
        if self.bandwidth_bytes_per_s is not None and self.bandwidth_bytes_per_s < MIN_BANDWIDTH_BYTES_PER_S:
            raise ValueError(
                f"bandwidth must be at least {format_bytes(MIN_BANDWIDTH_BYTES_PER_S)} a second, "
                f"got {format_bytes(self.bandwidth_bytes_per_s)}"
            )
        if self.bind and not ipaddress.ip_address(self.listen.host).is_unspecified:
            raise ValueError(
                f"--bind {self.bind} and --listen {self.listen} both choose an interface; "
                f"give --bind with --listen 0.0.0.0:{self.listen.port}, or --listen alone"
            )
        for origin in self.api_origins:
            _check_origin(origin)
        for proxy in self.api_proxies:
            _check_network(proxy)


def _check_origin(text: str) -> None:
    if not re.fullmatch(r"https?://[^/\s*]+", text):
        raise ValueError(f"{text!r} is not an origin; write it like https://chat.example.org")


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an address nor a network; write it like 127.0.0.1 or 192.0.2.0/24"
        ) from None
