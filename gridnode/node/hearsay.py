"""What a node believes of the announcements that its peers bring."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from gridnode.core.announcements import Announcement, is_from_the_future, least_age_s
from gridnode.core.ids import PeerId, short
from gridnode.errors import Unauthentic
from gridnode.net.handshake_limit import TokenBucket
from gridnode.wire.messages import SignedAnnouncement
from gridnode.wire.signing import verify_announcement

logger = logging.getLogger("gridnode.node.hearsay")

# Each costs a seventh of a millisecond. A swarm of 500 nodes makes 17 a second, and as many more at once
# when somebody joins: that takes a second or two.
MAX_ANNOUNCEMENTS_PER_S = 200.0
# Peers whose rate is remembered, connected or not: more than connections are allowed.
MAX_METERED_PEERS = 1024


class Hearsay:
    """Checks announcements before anything is done with them.

    Args:
        swarm: Name of the swarm; announcements of others are ignored.
        wall_s: Seconds since 1970, as this computer believes.
    """

    def __init__(self, swarm: str, *, wall_s: Callable[[], float]) -> None:
        self._swarm = swarm
        self._wall_s = wall_s
        self._buckets: OrderedDict[PeerId, TokenBucket] = OrderedDict()

    async def believe(
        self, signed: SignedAnnouncement, *, teller: PeerId, may_serve: bool = True
    ) -> tuple[Announcement, float] | None:
        """Return what `teller` brought and its age in seconds, or None if it is to be ignored.

        Waits while `teller` brings more than `MAX_ANNOUNCEMENTS_PER_S`, which slows it down. Cancelling is
        safe.

        Args:
            may_serve: Whether the blocks of `teller` may be used. A guest who may only chat speaks for
                nobody else either: it could lend its link to somebody who was not invited.

        Raises:
            Unauthentic: it is forged.
            ProtocolError: it is no announcement.
        """
        await self._wait_turn(teller)
        try:
            announcement = verify_announcement(signed)
        except Unauthentic as exc:
            logger.warning("node %s brought a forged announcement: %s", short(teller), exc)
            raise
        if announcement.swarm != self._swarm:
            return None
        wall_s = self._wall_s()
        is_first_hand = teller == announcement.peer_id
        if not may_serve and (announcement.serving or not is_first_hand):
            text = "node %s was invited to chat only, and announces blocks, or other nodes: ignored"
            logger.log(logging.WARNING if is_first_hand else logging.DEBUG, text, short(teller))
            return None
        if is_from_the_future(announcement, wall_s=wall_s):
            level = logging.WARNING if is_first_hand else logging.DEBUG
            text = (
                "announcement of %s is %.0f s from the future: set the clock of that computer, or of this one"
            )
            logger.log(level, text, short(announcement.peer_id), announcement.made_at_s - wall_s)
            return None
        if is_first_hand:
            # The connection proves that the peer is there now, whatever its clock says.
            return announcement, signed.age_s
        return announcement, max(signed.age_s, least_age_s(announcement, wall_s=wall_s))

    async def _wait_turn(self, teller: PeerId) -> None:
        now = asyncio.get_running_loop().time
        bucket = self._buckets.setdefault(teller, TokenBucket(MAX_ANNOUNCEMENTS_PER_S, now=now()))
        self._buckets.move_to_end(teller)
        if len(self._buckets) > MAX_METERED_PEERS:
            self._buckets.popitem(last=False)
        while not bucket.take(now=now()):  # noqa: ASYNC110 - for time itself
            await asyncio.sleep(1 / MAX_ANNOUNCEMENTS_PER_S)
