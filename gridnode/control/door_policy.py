"""Who may use the door for what: hosts, origins, keys and the scope that each request needs."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope as Request

from gridnode.config import NodeConfig
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope

# What a login page and a load balancer need, and what is the same on every node.
_OPEN_PATHS = frozenset({"/health", "/login", "/logout", "/favicon.ico", "/openapi.json"})
_OPEN_PREFIX = "/static/"

# For programs that talk to models (OpenAI, Anthropic), and for what the page Chat asks.
_CHAT_PREFIXES = ("/v1/", "/chat/")
# The page, our own requests, and those of Ollama and Petals.
_CHAT_PATHS = frozenset(
    {
        "/chat",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/api/generate",
        "/api/ps",
        "/api/pull",  # finds what is served, and fetches nothing
        "/api/show",
        "/api/tags",
        "/api/version",
        "/api/v1/embed",
        "/api/v1/generate",
        "/api/v1/run",
        "/api/v1/score",
        "/api/v1/version",
        "/api/v2/generate",
    }
)
# Streams that last as long as somebody looks.
_LASTING_PATHS = frozenset({"/api/v1/events"})
_FORWARDING_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPolicy:
    """Who may use a door. Without arguments: this computer."""

    keys: KeyFile | None = None
    """The keys that open the door from elsewhere; None refuses every key."""

    hosts: frozenset[str] = frozenset()
    """Names under which the door is addressed, beside those of this computer, in small letters."""

    origins: frozenset[str] = frozenset()
    """Origins like `https://chat.example.org` whose pages may use the door."""

    proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies that are believed whom they ask for."""

    home_needs_key: bool = False
    """Whether requests from this computer need a key, too."""

    public_scopes: frozenset[Scope] = frozenset()
    """What nobody needs a key for: a public monitor has `MONITOR` here."""


THIS_COMPUTER = DoorPolicy()


def policy_of(config: NodeConfig) -> DoorPolicy:
    """Return the policy of a node's door: its keys are in its state directory."""
    return DoorPolicy(
        keys=KeyFile(config.state_dir),
        hosts=frozenset(_canonical(host.lower()) for host in config.api_hosts),
        origins=frozenset(origin.lower() for origin in config.api_origins),
        proxies=tuple(form for proxy in config.api_proxies for form in _on_both_families(proxy)),
        home_needs_key=config.api_require_key,
    )


def needed_scope(method: str, path: str) -> Scope | None:
    """Return what a key must be good for, or None if anybody may ask.

    What is not known to be harmless needs more, not less: unknown paths can be looked at by those who
    may look at the swarm, and changed by those who may change everything.
    """
    if path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX):
        return None
    if path in _CHAT_PATHS or path.startswith(_CHAT_PREFIXES):
        return Scope.CHAT
    return Scope.MONITOR if method in ("GET", "HEAD") else Scope.ADMIN


def lasts(path: str) -> bool:
    """Return whether an answer at `path` goes on until its reader leaves."""
    return path in _LASTING_PATHS


def is_local(request: Request) -> bool:
    """Return whether a request comes from this computer and means it.

    A proxy on this computer connects from loopback too. It is told apart by the name that it passes on,
    or by the headers that it adds.
    """
    headers = Headers(scope=request)
    return (
        is_loopback_name(client_host(request))
        and is_loopback_name(host_name(headers.get("host", "")))
        and not any(name in headers for name in _FORWARDING_HEADERS)
    )


def client_host(request: Request) -> str:
    """Return the address from which a request comes; empty if the server does not tell."""
    return _end(request, "client")


def host_refusal(request: Request, policy: DoorPolicy) -> str | None:
    """Return why the `Host` or `Origin` of a request is refused, or None.

    Names are a closed list, because a page of a stranger can have a name that its owner lets point to
    this computer (DNS rebinding): the browser takes this node for a part of that page then.
    """
    headers = Headers(scope=request)
    host = headers.get("host", "")
    name = host_name(host)
    if not (
        is_loopback_name(name)
        or name in policy.hosts
        or name in own_names()
        or name == _end(request, "server")
    ):
        return (
            f"host {host[:100]!r} is refused: the door answers to the addresses and the name of its "
            "computer; 'gridnode up --api-host NAME' allows one more"
        )
    origin = headers.get("origin")
    # Browsers always tell the origin of a page that posts; programs send none.
    if origin is None or origin in policy.origins or origin.partition("://")[2].lower() == host.lower():
        return None
    return (
        f"origin {origin[:100]!r} is refused: pages of other origins may not use this node; "
        "'gridnode up --api-origin ORIGIN' allows one"
    )


def own_names() -> frozenset[str]:
    """Return the names that this computer has on its network, as far as it knows without asking."""
    name = socket.gethostname().lower()
    first = name.partition(".")[0]
    return frozenset({name, first, f"{first}.local"} - {"", ".local"})


def host_name(host: str) -> str:
    """Return the name or address in a `Host` header in small letters, without port and brackets."""
    if host.startswith("["):
        return _canonical(host[1:].partition("]")[0])
    return _canonical(host.partition(":")[0].lower())


def is_loopback_name(name: str) -> bool:
    """Return whether `name` is `localhost` or a loopback address."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _end(request: Mapping[str, object], name: str) -> str:
    """Return the address of the `client` or `server` end of a connection."""
    end = request.get(name)
    return _canonical(str(end[0])) if isinstance(end, list | tuple) and end else ""


def _on_both_families(proxy: str) -> tuple[str, ...]:
    """Return an address or network as sockets tell it: one for both families writes IPv4 as IPv6."""
    network = ipaddress.ip_network(proxy)
    if network.version == 6:
        return (proxy,)
    return (proxy, f"::ffff:{network.network_address}/{96 + network.prefixlen}")


def _canonical(host: str) -> str:
    """Return an address in its one form; names stay as they are. IPv4 on an IPv6 socket is IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
