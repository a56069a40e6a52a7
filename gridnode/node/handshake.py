"""What two nodes say on the first stream of a connection: which swarm, and the proof of belonging to it.

    dials                                   is dialled
    Hello (ids, nonce)           ->
                                 <-         Hello (ids, nonce)
    Prove (signs its nonce)      ->
                                 <-         Prove (signs its nonce), or Refused
    NewKey, if it has one; end   <->        NewKey, if it has one; end

In a public swarm it ends behind the hellos. Until it has ended, nothing else is said on a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from gridnode import __version__
from gridnode.core.ids import PeerId, short
from gridnode.core.swarm_pass import NONCE_BYTES, Challenge, Standing, SwarmPass
from gridnode.core.swarm_secret import SwarmKey, opaque_id
from gridnode.errors import GridError, ProtocolError, SwarmRefused
from gridnode.net.transport import Stream
from gridnode.node.refusal import refuse
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame
from gridnode.wire.messages import (
    PROTOCOL_VERSION,
    Hello,
    NewKey,
    Prove,
    Refused,
    decode_message,
    expect_message,
    understands,
)

# How long a refused peer has to read why.
PARTING_S = 1.0


class Handshake:
    """One side of it, on one stream.

    Args:
        me: Who this node is.
        swarm: What it holds of its swarm.
        now_s: Seconds since 1970.
    """

    def __init__(self, stream: Stream, swarm: SwarmPass, *, me: PeerId, now_s: float) -> None:
        self._stream = stream
        self._swarm = swarm
        self._me = me
        self._peer_id = stream.connection.peer_id
        self._who = f"node {short(self._peer_id)} at {stream.connection.address}"
        self._now_s = now_s
        self._nonce = secrets.token_bytes(NONCE_BYTES)

    async def greet(self) -> Hello:
        """Say hello first, and return what the peer says."""
        await self._say_hello()
        return expect_message(await self._stream.receive(), Hello)

    async def answer(self, hello: Hello) -> tuple[Standing, SwarmKey | None]:
        """Do everything that follows the `hello` of a peer; see `prove`."""
        await self._say_hello()
        try:
            return await self.prove(hello, is_first=False)
        except (SwarmRefused, ProtocolError):
            await self._part()
            raise

    async def prove(self, hello: Hello, *, is_first: bool = True) -> tuple[Standing, SwarmKey | None]:
        """Go on behind both hellos; return what the peer has proven, and the newer swarm key that it brings.

        Raises:
            SwarmRefused: one side refuses the other. Both know why, and nothing more.
            ProtocolError: the peer speaks another protocol.
            PeerLost: it is gone.
        """
        if not understands(hello.protocol):
            raise ProtocolError(
                f"{self._who} runs gridnode {hello.version} with protocol {hello.protocol}, this one "
                f"{__version__} with {PROTOCOL_VERSION}; upgrade the older one"
            )
        public_key = self._choose(hello)
        if public_key is None:
            return await self._end(Standing())
        if is_first:
            await self._send_proof(hello, public_key)
        standing = await self._receive_proof(public_key)
        if not is_first:
            await self._send_proof(hello, public_key)
        return await self._end(standing)

    async def _say_hello(self) -> None:
        swarm = self._swarm
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            version=__version__,
            swarm="" if swarm.is_private else swarm.name,
            swarm_ids=swarm.ids("link", now_s=self._now_s) if swarm.is_private else (),
            nonce=self._nonce,
        )
        await self._stream.send(encode_message(hello))

    def _choose(self, hello: Hello) -> bytes | None:
        """Return the newest swarm key that both sides have; None in a public swarm.

        Raises:
            SwarmRefused: there is none.
        """
        mine = self._swarm
        if not mine.is_private:
            if hello.swarm == mine.name:
                return None
            if hello.swarm:
                raise SwarmRefused(
                    f"{self._who} belongs to swarm {hello.swarm!r}, this one to {mine.name!r}; start both "
                    "with the same --swarm"
                )
            raise SwarmRefused(
                f"{self._who} belongs to a private swarm, and this one has no key; get an invitation "
                "('gridnode invite' there), and give it to 'gridnode join'"
            )
        if hello.swarm:
            raise SwarmRefused(
                f"{self._who} belongs to the public swarm {hello.swarm!r}, and this one to a private swarm; "
                "invite it with 'gridnode invite' if it is yours"
            )
        for public_key in mine.public_keys(now_s=self._now_s):
            if opaque_id(mine.name, public_key, purpose="link") in hello.swarm_ids:
                return public_key
        raise SwarmRefused(
            f"{self._who} has another swarm key than this one, or its swarm has another name than "
            f"{mine.name!r}; if it should be the same, get a new invitation ('gridnode invite' there)"
        )

    async def _send_proof(self, hello: Hello, public_key: bytes) -> None:
        challenge = Challenge(prover=self._me, verifier=self._peer_id, nonce=hello.nonce)
        proof = self._swarm.prove(challenge, public_key=public_key)
        await self._stream.send(encode_message(Prove(proof=proof)))

    async def _receive_proof(self, public_key: bytes) -> Standing:
        proof = expect_message(self._raise_if_refused(await self._stream.receive()), Prove).proof
        challenge = Challenge(prover=self._peer_id, verifier=self._me, nonce=self._nonce)
        try:
            return self._swarm.check(proof, challenge, public_key=public_key, now_s=self._now_s)
        except SwarmRefused as exc:
            await refuse(self._stream, exc)
            await self._part()
            raise SwarmRefused(f"{self._who} is refused: {exc}") from exc

    async def _end(self, standing: Standing) -> tuple[Standing, SwarmKey | None]:
        """Give a newer key to a member, and take one."""
        keys = self._swarm.keys
        if keys and standing.holds_key and standing.public_key != keys[0].public_key:
            await self._stream.send(encode_message(NewKey(key=keys[0])))
        self._stream.finish()
        frame = self._raise_if_refused(await self._stream.receive())
        return standing, expect_message(frame, NewKey).key if frame else None

    def _raise_if_refused(self, frame: Frame | None) -> Frame | None:
        """Return `frame` unless it says that the peer refuses this node."""
        if frame is not None and isinstance(message := decode_message(frame), Refused):
            raise SwarmRefused(f"{self._who} refuses this node: {message.text}")
        return frame

    async def _part(self) -> None:
        """Give the peer a while to read why it is refused: closing may lose what was sent last."""
        self._stream.finish()
        with contextlib.suppress(GridError, TimeoutError):
            async with asyncio.timeout(PARTING_S):
                while await self._stream.receive() is not None:
                    pass
                await self._stream.connection.wait_closed()
