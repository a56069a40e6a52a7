"""Opening sessions on the best route that answers, and avoiding peers that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import Aim, Route
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.engine.tuned_tensors import NOTHING_ADDED, Added
from gridnode.errors import ErrorCode, GridError, NoCapacity, PeerLost, PeerRefused
from gridnode.node.links import Links
from gridnode.node.pacing import Pacing
from gridnode.node.remote_session import RemoteSession, SessionPlan
from gridnode.node.status import SwarmView

logger = logging.getLogger("gridnode.node.sessions")

# What another route, or the same peer later, may do better.
_SURVIVABLE = frozenset(
    {
        ErrorCode.CACHE_FULL,
        ErrorCode.ENGINE_LOST,
        ErrorCode.NO_CAPACITY,
        ErrorCode.NO_TRAINING,
        ErrorCode.PEER_LOST,
        ErrorCode.PROTOCOL,
        ErrorCode.SESSION_IDLE,
        ErrorCode.TIMEOUT,
        ErrorCode.WRONG_MODEL,
        ErrorCode.WRONG_SPAN,
    }
)

_ENDING = frozenset({PeerState.LEAVING, PeerState.PAUSED})


# What others let go in the same moment is free again after this: a round trip of a LAN, many times over.
PARTING_S = 0.05
# A session moves to a route that is so much faster: it runs all of its tokens again there, and what peers
# announce is a promise.
SLOW_FACTOR = 2.0
SLOW_MARGIN_S = 0.02


def is_survivable(error: GridError) -> bool:
    """Return whether another hop could do what failed with `error`."""
    return isinstance(error, PeerLost) or (isinstance(error, PeerRefused) and error.reason in _SURVIVABLE)


class SessionOpener:
    """Opens sessions of one answer.

    Args:
        view: Returns the swarm as it is now.
        wait_change: Returns once the view may have changed.
        max_tokens: Positions to lease for each row.
        added: To the blocks.
        part: Blocks to run on hidden states; None is the whole model.
        wishes: Which nodes may take part.
        aim: What the routes are chosen for.
    """

    def __init__(
        self,
        links: Links,
        *,
        pacing: Pacing,
        view: Callable[[], SwarmView],
        wait_change: Callable[[], Awaitable[None]],
        model: ModelId,
        num_blocks: int,
        max_tokens: int,
        sampling: SamplingParams,
        part: Span | None = None,
        wishes: RouteWishes = ANYWHERE,
        aim: Aim = Aim.LATENCY,
        batch: int = 1,
        added: Added = NOTHING_ADDED,
    ) -> None:
        self._links = links
        self._pacing = pacing
        self._wishes = wishes
        self._aim = aim
        self._batch = batch
        self._added = added
        self._view = view
        self._wait_change = wait_change
        self._model = model
        self._num_blocks = num_blocks
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._part = part
        self._failed: dict[PeerId, int] = {}
        """Peers to avoid, with the sequence number of their newest announcement at that time."""

        self._doubted: dict[PeerId, bool] = {}
        """Peers that were lost once while there was a link to them, and whether to avoid them now."""

    def note_failure(self, error: GridError) -> None:
        """Avoid whom `error` blames, until that peer announces itself anew.

        A peer to which there still is a link may only have changed its address: it is tried once more
        where nobody else serves its blocks.
        """
        if not isinstance(error, PeerRefused) or not error.peer_id:
            return
        if error.reason is ErrorCode.SESSION_IDLE:
            return  # nothing is wrong with the peer: it takes the session anew
        peer_id = PeerId(error.peer_id)
        link = self._links.connections().get(peer_id)
        if link is not None:
            link.suspect()
        if error.reason is ErrorCode.PEER_LOST and link is not None and peer_id not in self._doubted:
            self._doubted[peer_id] = True
        else:
            self._failed[peer_id] = self._view().swarm.sequences.get(peer_id, 0)

    def is_ending(self, route: Route) -> bool:
        """Return whether a hop of `route` announces that it stops serving."""
        peers = self._view().swarm.peers
        return any(
            hop.peer_id in peers and peers[hop.peer_id].announcement.state in _ENDING for hop in route.hops
        )

    def slowness(self, route: Route) -> str:
        """Return in words how much slower `route` is than another one, if it is so much that moving pays."""
        try:
            best = self._route()
        except NoCapacity:
            return ""
        view = self._view()
        now_s, then_s = (view.expected_step_s(self._model, each) for each in (route, best))
        if best == route or now_s < SLOW_FACTOR * then_s or now_s - then_s < SLOW_MARGIN_S:
            return ""
        return f"a token takes {1e3 * now_s:.0f} ms along {route}, {1e3 * then_s:.0f} ms elsewhere"

    async def open(self, *, deadline: float | None = None) -> RemoteSession:
        """Return a session, open on every hop of the best route; pass by hops that refuse.

        Args:
            deadline: Until when, on the loop's clock, to wait for a route if there is none; None
                does not wait.

        Raises:
            NoCapacity: there is no route, or none with room.
            PeerRefused: every route ended in a refusal, the last of which this is.
        """
        last: GridError | None = None
        in_order = False
        while True:
            route = await self.find_route(deadline, last)
            session = self._session(route, in_order=in_order)
            try:
                return await session.__aenter__()
            except (PeerRefused, PeerLost) as exc:
                if not is_survivable(exc) or not isinstance(exc, PeerRefused):
                    raise
                last = exc
                if exc.reason is ErrorCode.CACHE_FULL and not in_order and len(route.hops) > 1:
                    # Two clients may have taken the last room of one hop each, and both were refused by
                    # the other one. Who takes hops in order meets at the first: one of them goes on.
                    logger.info("route %s: %s; trying again, hop by hop", route, exc)
                    in_order = True
                    await asyncio.sleep(PARTING_S)
                    continue
                logger.info("route %s: %s; trying another", route, exc)
                self.note_failure(exc)

    async def find_route(self, deadline: float | None, last: GridError | None = None) -> Route:
        """Return the best route of those that have not failed; wait for one until `deadline`.

        Args:
            deadline: On the loop's clock; None does not wait.
            last: What to raise instead of the lack of a route.

        Raises:
            NoCapacity: there is no route, or none with room.
        """
        while True:
            try:
                return self._route()
            except NoCapacity as exc:
                if deadline is None:
                    raise last or exc from None
                await self._wait(deadline, last or exc)

    async def _wait(self, deadline: float, error: GridError) -> None:
        """Wait for news of the swarm; raise `error` when the time is over."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._wait_change()
        except TimeoutError:
            raise error from None

    def _session(self, route: Route, *, in_order: bool) -> RemoteSession:
        links_s = self._view().links_s(self._model, route)
        self._pacing.begin(route)
        return RemoteSession(
            self._links,
            self._plan(route),
            addresses=self._addresses(route),
            in_order=in_order,
            expected_step_s=self._view().expected_step_s(self._model, route),
            on_lap=lambda trace, lap_s: self._pacing.note(route, trace, lap_s, links_s),
            on_end=lambda: self._pacing.end(route),
        )

    def _route(self) -> Route:
        view = self._view()
        failed = frozenset(
            peer_id for peer_id, seen in self._failed.items() if view.swarm.sequences.get(peer_id, 0) <= seen
        )
        doubted = frozenset(peer_id for peer_id, is_avoided in self._doubted.items() if is_avoided)
        if doubted:
            try:
                return self._best(view, failed | doubted)
            except NoCapacity:
                self._doubted = dict.fromkeys(self._doubted, False)  # better than nobody
        return self._best(view, failed)

    def _best(self, view: SwarmView, avoid: frozenset[PeerId]) -> Route:
        return view.route(
            self._model,
            self._num_blocks,
            cache_tokens=self._batch * self._max_tokens,
            part=self._part,
            avoid=avoid,
            wishes=self._wishes,
            aim=self._aim,
            adapter=self._added.adapter,
        )

    def _plan(self, route: Route) -> SessionPlan:
        return SessionPlan(
            model=self._model,
            route=route,
            max_tokens=self._max_tokens,
            batch=self._batch,
            sampling=self._sampling,
            added=self._added,
        )

    def _addresses(self, route: Route) -> dict[PeerId, tuple[Address, ...]]:
        peers = self._view().swarm.peers
        return {hop.peer_id: peers[hop.peer_id].announcement.addresses for hop in route.hops}
