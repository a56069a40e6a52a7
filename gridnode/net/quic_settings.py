"""What can be tuned about QUIC, with its reasons."""

from __future__ import annotations

from dataclasses import dataclass

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE

from gridnode.net import congestion

# aioquic writes the length of data in a packet with two bytes: 16383 at most, headers included.
LARGEST_DATAGRAM_BYTES = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicSettings:
    """How connections behave. The defaults suit the Internet; tests shorten the times."""

    datagram_bytes: int = SMALLEST_MAX_DATAGRAM_SIZE
    """Largest datagram sent through relays, and before probes; 1200 passes everywhere (RFC 9000, 14.1)."""

    largest_datagram_bytes: int = LARGEST_DATAGRAM_BYTES
    """Largest datagram sent where probes have shown that it passes."""

    idle_timeout_s: float = 45.0
    """Silence after which a connection is lost."""

    idle_ping_interval_s: float = 15.0
    """Silence after which a connection without streams is pinged; NAT mappings live for 30 s or more."""

    busy_ping_interval_s: float = 3.0
    """The same while streams are open: somebody waits, so a dead peer should be noticed soon."""

    busy_silence_limit_s: float = 10.0
    """Silence after which a connection with open streams is lost, pings unanswered."""

    suspicion_s: float = 0.3
    """Silence, beside two round trips, after which a connection is lost once there was reason to doubt it:
    its peer's host said that nobody listens there, or a stream broke."""

    handshake_timeout_s: float = 10.0
    """Time that a peer which dials us has for its handshake."""

    max_connections: int = 256
    """Connections at once, both ways. Each costs about 100 kB of Python objects."""

    max_handshakes: int = 128
    """Handshakes of peers that dial us, at once; the oldest makes room for more, since forged ones never end.
    More than come in one burst: a peer has half a second for its own at least."""

    max_streams: int = 128
    """Streams that a peer may have open at once; each of them makes every packet a little slower."""

    max_waiting_connections: int = 64
    """Connections that finished their handshake and were not accepted yet."""

    handshakes_per_s: float = 50.0
    """Handshakes begun by peers per second, over all addresses: each costs about 4 ms of CPU."""

    handshakes_per_address_per_s: float = 10.0
    """The same from one address, or one /64 network of IPv6; bursts of two seconds' worth are fine."""

    congestion_control: str = congestion.NAME
    """Name of a congestion controller that aioquic knows: ours, `"cubic"` or `"reno"`."""

    def __post_init__(self) -> None:
        for name in ("datagram_bytes", "largest_datagram_bytes"):
            if not SMALLEST_MAX_DATAGRAM_SIZE <= getattr(self, name) <= LARGEST_DATAGRAM_BYTES:
                raise ValueError(
                    f"{name} must be within {SMALLEST_MAX_DATAGRAM_SIZE} and {LARGEST_DATAGRAM_BYTES}, "
                    f"got {getattr(self, name)}"
                )
