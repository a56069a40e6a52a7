"""Who is let in: every connection proves that it belongs to the swarm before anything else is said on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

from gridnode.config.swarm_file import SwarmFile
from gridnode.core.ids import PeerId, short
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import Standing, SwarmPass
from gridnode.core.swarm_secret import Purpose, SwarmKey
from gridnode.errors import GridError, PeerLost, SwarmRefused
from gridnode.net.transport import Connection, Stream
from gridnode.node.handshake import Handshake
from gridnode.wire.messages import Hello, expect_message

logger = logging.getLogger("gridnode.node.admission")

# Four round trips of a bad link; whoever says nothing has its connection for no longer.
HANDSHAKE_TIMEOUT_S = 5.0
# How soon an invitation that ended, and a new key, are noticed.
LOOK_INTERVAL_S = 1.0


class Admission:
    """Lets peers in, and out again when what they have proven counts no more.

    Args:
        invitation: What this node holds of its swarm.
        file: Where new keys are kept, and where other processes put them.
        wall_s: Seconds since 1970.
    """

    def __init__(
        self,
        me: PeerId,
        invitation: Invitation,
        file: SwarmFile,
        *,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.swarm = invitation.swarm
        self._me = me
        self._invitation = invitation
        self._file = file
        self._wall_s = wall_s
        self._standings: WeakKeyDictionary[Connection, Standing] = WeakKeyDictionary()
        self._has_new_key = asyncio.Event()

    def opaque_ids(self, purpose: Purpose, *, about: bytes = b"") -> tuple[str, ...]:
        """Return what the swarm is called where strangers listen, in hexadecimal, newest first.

        There are several while its key is being replaced; see `gridnode.core.swarm_secret.opaque_id`.
        """
        return tuple(found.hex() for found in self.swarm.ids(purpose, now_s=self._wall_s(), about=about))

    async def admit(self, connection: Connection) -> None:
        """Return once both ends of a new connection have proven that they belong to the swarm.

        Cancelling is safe; close the connection if this fails.

        Raises:
            SwarmRefused: one of them has not. The text says why.
            ProtocolError: the peer speaks another protocol.
            PeerLost: it is gone, or says nothing.
        """
        if connection.peer_id == self._me:
            return
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                if connection.is_client:
                    await self._greet(connection)
                    return
                stream = await connection.accept_stream()
                await self.answer(stream, expect_message(await stream.receive(), Hello))
        except TimeoutError:
            who = f"node {short(connection.peer_id)} at {connection.address}"
            raise PeerLost(
                f"{who} did not say within {HANDSHAKE_TIMEOUT_S:g} s which swarm it belongs to"
            ) from None

    async def answer(self, stream: Stream, hello: Hello) -> None:
        """Take part in a handshake that a peer begins; see `admit`."""
        handshake = Handshake(stream, self.swarm, me=self._me, now_s=self._wall_s())
        self._note(stream.connection, *await handshake.answer(hello))

    def may_serve(self, connection: Connection) -> bool:
        """Return whether the blocks of the peer at the other end may be used."""
        return self._standings.get(connection, Standing()).may_serve

    async def run(self) -> None:
        """Follow new keys, and close links that count no more, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._has_new_key.wait()
            except TimeoutError:
                self._take_over(self._file.reread(self.swarm))
            if self._has_new_key.is_set():
                self._has_new_key.clear()
                await asyncio.gather(*map(self._prove_anew, self._under_old_keys()))
            await self._close_ended()

    async def _greet(self, connection: Connection) -> None:
        stream = await connection.open_stream()
        handshake = Handshake(stream, self.swarm, me=self._me, now_s=self._wall_s())
        try:
            self._note(connection, *await handshake.prove(await handshake.greet()))
        except BaseException:
            stream.reset()
            raise

    def _note(self, connection: Connection, standing: Standing, key: SwarmKey | None) -> None:
        known = self._standings.get(connection)
        newest = self.swarm.keys[0].public_key if self.swarm.keys else b""
        # Two handshakes of one connection may end in another order than they began.
        if known is None or known.public_key != newest:
            self._standings[connection] = standing
        if key is None:
            return
        try:
            swarm = self.swarm.follow(key, teller=standing, now_s=self._wall_s())
        except SwarmRefused as exc:
            logger.warning("node %s brought a swarm key: %s", short(connection.peer_id), exc)
            return
        logger.info("node %s brought the new swarm key", short(connection.peer_id))
        self._file.write(replace(self._invitation, swarm=swarm))
        self._take_over(swarm)

    def _take_over(self, swarm: SwarmPass | None) -> None:
        if swarm is not None and swarm != self.swarm:
            self.swarm = swarm
            self._has_new_key.set()

    def _under_old_keys(self) -> list[Connection]:
        """Return the links to members that have not proven the newest key yet."""
        if not self.swarm.keys:
            return []
        newest = self.swarm.keys[0].public_key
        return [
            connection
            for connection, standing in self._standings.items()
            if standing.holds_key and standing.public_key != newest and not connection.is_closed
        ]

    async def _prove_anew(self, connection: Connection) -> None:
        """Give the new key to a member, or prove it to one who has it."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._greet(connection)
        except (GridError, TimeoutError) as exc:
            logger.debug("node %s stays with the old swarm key: %s", short(connection.peer_id), exc)

    async def _close_ended(self) -> None:
        now_s = self._wall_s()
        for connection, standing in list(self._standings.items()):
            if connection.is_closed:
                del self._standings[connection]
            elif not self.swarm.accepts(standing, now_s=now_s):
                why = "its invitation has ended" if standing.grant else "its swarm key was replaced"
                logger.info("link to %s ends: %s", short(connection.peer_id), why)
                await connection.aclose()
