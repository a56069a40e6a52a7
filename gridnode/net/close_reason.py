"""What the end of a QUIC connection means to us: which error, in which words."""

from __future__ import annotations

from enum import IntEnum

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gridnode.errors import GridError, PeerLost, ProtocolError, Unauthentic
from gridnode.net.framed_stream import describe_code

# Text of strangers: enough to understand, too little to flood a log.
_MAX_REASON_CHARACTERS = 200


class TlsAlert(IntEnum):
    """Alerts with which a handshake is refused (RFC 8446, 6.2)."""

    BAD_CERTIFICATE = 42
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120

    @property
    def error_code(self) -> int:
        """The QUIC error code that carries the alert (RFC 9001, 4.8)."""
        return int(QuicErrorCode.CRYPTO_ERROR) + self

    @property
    def frame_type(self) -> int:
        """The frame that is blamed: the one that carried the handshake."""
        return int(QuicFrameType.CRYPTO)


def explain_close(
    event: ConnectionTerminated, *, who: str, is_ours: bool, idle_timeout_s: float
) -> GridError:
    """Return the error for a connection that QUIC ended.

    Args:
        event: The end, as the library tells it.
        who: The other side, in words.
        is_ours: Whether this side noticed or decided it.
        idle_timeout_s: The silence that ends a connection.
    """
    reason = f": {event.reason_phrase[:_MAX_REASON_CHARACTERS]!r}" if event.reason_phrase else ""
    if event.frame_type is None:
        return PeerLost(f"{who} closed the connection ({describe_code(event.error_code)}){reason}")
    if event.error_code == TlsAlert.NO_APPLICATION_PROTOCOL.error_code:
        return ProtocolError(f"{who} speaks another protocol or version; update the older of the two nodes")
    if QuicErrorCode.CRYPTO_ERROR <= event.error_code <= QuicErrorCode.CRYPTO_ERROR + 0xFF:
        verb = "failed the handshake" if is_ours else "refused our handshake"
        return Unauthentic(f"{who} {verb} (alert {event.error_code - QuicErrorCode.CRYPTO_ERROR}){reason}")
    if not is_ours:
        return PeerLost(f"{who} closed the connection (QUIC error {event.error_code:#x}){reason}")
    if event.error_code in (QuicErrorCode.INTERNAL_ERROR, QuicErrorCode.NO_VIABLE_PATH):
        # The library's words for an idle timeout and for a path that could not be validated.
        return PeerLost(f"{who} did not answer for up to {idle_timeout_s:g} s{reason}")
    return ProtocolError(f"{who} violated QUIC (error {event.error_code:#x}){reason}")
