"""Streams that peers open: the first message says what each is for."""

from __future__ import annotations

from gridnode.errors import GridError, ProtocolError, SwarmRefused
from gridnode.net.transport import Stream
from gridnode.node.admission import Admission
from gridnode.node.contribution import Contribution
from gridnode.node.membership import Membership
from gridnode.node.relaying import Relaying
from gridnode.node.text_library import TextLibrary
from gridnode.wire.messages import (
    Backward,
    FindText,
    Hello,
    OpenNews,
    OpenPush,
    OpenSession,
    decode_message,
)
from gridnode.wire.relay_messages import is_relay_message


class Reception:
    """Gives each stream to whoever serves its kind."""

    def __init__(
        self,
        *,
        admission: Admission,
        membership: Membership,
        relaying: Relaying,
        texts: TextLibrary,
        contribution: Contribution,
    ) -> None:
        self._admission = admission
        self._membership = membership
        self._relaying = relaying
        self._texts = texts
        self._contribution = contribution

    async def serve(self, stream: Stream) -> None:
        """Serve one stream to its end; a stream that fails is reset.

        Raises:
            GridError: the peer is gone, or asked for what it may not have.
        """
        try:
            frame = await stream.receive()
            if frame is None:
                return
            if is_relay_message(frame.type):
                await self._relaying.answer(stream, frame)
                return
            message = decode_message(frame)
            if isinstance(message, Hello):
                await self._admission.answer(stream, message)
            elif isinstance(message, OpenNews):
                await self._membership.exchange(stream)
            elif isinstance(message, FindText):
                await self._texts.serve(stream, message)
            elif isinstance(message, OpenSession | OpenPush | Backward):
                if not (isinstance(message, OpenSession) or self._admission.may_serve(stream.connection)):
                    raise SwarmRefused("a guest who was invited to chat only wants more")
                await self._contribution.serve_stream(stream, message, frame.body)
            else:
                raise ProtocolError(f"a stream cannot begin with {type(message).__name__}")
        except GridError:
            stream.reset()
            raise
