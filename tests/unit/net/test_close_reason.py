"""What the end of a connection is called."""

from __future__ import annotations

import pytest
from aioquic.quic.events import ConnectionTerminated

from gridnode.errors import GridError, PeerLost, ProtocolError, Unauthentic
from gridnode.net.close_reason import explain_close


@pytest.mark.parametrize(
    ("code", "frame_type", "is_ours", "kind", "words"),
    [
        (0, None, False, PeerLost, "closed the connection (dropped)"),
        (2, None, False, PeerLost, "closed the connection (busy)"),
        (77, None, False, PeerLost, "closed the connection (code 77)"),
        (0x100 + 120, 6, False, ProtocolError, "another protocol or version"),
        (0x100 + 116, 6, False, Unauthentic, "refused our handshake (alert 116)"),
        (0x100 + 42, 6, True, Unauthentic, "failed the handshake (alert 42)"),
        (1, 0, True, PeerLost, "did not answer for up to 45 s"),
        (0xA, 8, True, ProtocolError, "violated QUIC (error 0xa)"),
        (0xA, 8, False, PeerLost, "closed the connection (QUIC error 0xa)"),
    ],
)
def test_close_is_explained(
    code: int, frame_type: int | None, is_ours: bool, kind: type[GridError], words: str
) -> None:
    event = ConnectionTerminated(error_code=code, frame_type=frame_type, reason_phrase="")
    error = explain_close(event, who="node abc", is_ours=is_ours, idle_timeout_s=45.0)
    assert type(error) is kind
    assert words in str(error)
    assert str(error).startswith("node abc")


def test_reason_of_a_stranger_is_cut_and_quoted() -> None:
    event = ConnectionTerminated(error_code=0, frame_type=None, reason_phrase="\x1b[31m" + "x" * 5000)
    error = explain_close(event, who="node abc", is_ours=False, idle_timeout_s=45.0)
    assert len(str(error)) < 400
    assert "\x1b" not in str(error)
