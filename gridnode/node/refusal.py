"""Telling a peer why it gets nothing."""

from __future__ import annotations

import contextlib

from gridnode.core.ids import PeerId
from gridnode.errors import GridError, PeerRefused
from gridnode.net.transport import Stream
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import MAX_TEXT_CHARACTERS, Refused


async def refuse(stream: Stream, error: GridError) -> None:
    """Tell the peer why its request ends here, if it can still hear it."""
    refused = Refused(
        code=error.reason if isinstance(error, PeerRefused) else error.code,
        text=str(error)[:MAX_TEXT_CHARACTERS],
        blamed=PeerId(error.peer_id) if isinstance(error, PeerRefused) else None,
    )
    with contextlib.suppress(GridError):
        await stream.send(encode_message(refused))
        stream.finish()
