"""Writing down what happens: joins and losses, failovers and refusals, work done, samples of every peer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, HopStatus, Rerouted, Started
from gridnode.control.history import Activity, ActivityKind, Sample, Work
from gridnode.control.status_schema import EngineStateName, NodeStatus, PeerStatus
from gridnode.core.ids import PeerId, short, show_peer
from gridnode.core.swarm import SwarmState
from gridnode.errors import BadInput, GridError
from gridnode.node.history_file import HistoryFile
from gridnode.node.swarm_news import swarm_news

logger = logging.getLogger("gridnode.node.history")

# Peers announce their load as often; a disk that sleeps is woken no more than needed.
LOOK_INTERVAL_S = 30.0
# News are written together; a swarm in turmoil costs one transaction a second.
WRITE_INTERVAL_S = 1.0
# What waits to be written; a swarm that has more news a second tells too much to be read.
MAX_WAITING = 1000
MAX_TEXT_CHARACTERS = 300
# Hops whose last figures are known: those of a large swarm.
MAX_LAST_HOPS = 512


class Recorder:
    """Fills the history of a node. What it misses is lost: no answer ever waits for it.

    Args:
        status: Returns what the node is doing now.
        served_block_tokens: Returns tokens times blocks that this node computed since it started.
        on_written: Called when there is something new to read.
        clock: Returns seconds since 1970.
    """

    def __init__(
        self,
        history: HistoryFile,
        me: PeerId,
        *,
        status: Callable[[], NodeStatus],
        served_block_tokens: Callable[[], int],
        on_written: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._history = history
        self._me = me
        self._status = status
        self._served_block_tokens = served_block_tokens
        self._on_written = on_written
        self._clock = clock
        self._waiting: deque[Activity] = deque(maxlen=MAX_WAITING)
        self._has_news = asyncio.Event()
        self._tokens: Counter[str] = Counter()
        """Tokens of answers asked for here, by the full ids of the peers that they went through."""

        self._block_tokens: Counter[str] = Counter()
        self._engine_state: EngineStateName = "none"
        self._most_sessions, self._most_cache_use = 0, 0.0
        self._last_hops: dict[str, HopStatus] = {}
        self._served = 0
        self._answered = 0

    async def run(self) -> None:
        """Write until cancelled; then write the rest."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_INTERVAL_S):
                        await self._has_news.wait()
                        await asyncio.sleep(WRITE_INTERVAL_S)
                await self.write()
        finally:
            await self.write()

    async def write(self) -> None:
        """Write down what is new, and how every peer is now."""
        status, now = self._status(), self._clock()
        activities = tuple(self._waiting)
        self._waiting.clear()
        self._has_news.clear()
        self._look_at_home(status)
        samples = [(peer.peer_id, self._sample(peer, now)) for peer in status.peers if peer.serving]
        names = {peer.peer_id: peer.public_name for peer in status.peers}
        work = [
            Work(
                peer_id=peer_id,
                public_name=names.get(peer_id, ""),
                block_tokens=count,
                first_at=now,
                last_at=now,
            )
            for peer_id, count in self._block_tokens.items()
            if count
        ]
        self._tokens.clear()
        self._block_tokens.clear()
        self._most_sessions, self._most_cache_use = 0, 0.0
        try:
            await self._history.add(activities=activities, samples=samples, work=work)
        except (sqlite3.Error, OSError, OverflowError) as exc:
            logger.warning("the history cannot be written: %s", exc)
        if activities or work:
            self._on_written()

    def swarm_changed(self, before: SwarmState, after: SwarmState) -> None:
        """Note who came and went."""
        for activity in swarm_news(before, after, me=self._me, at=self._clock()):
            self._note(activity)

    def refused(self, client: PeerId, error: GridError) -> None:
        """Note that this node refused a session of `client`."""
        self._note_here("refused", f"refused a session of {short(client)}: {error}")

    def engine_changed(self, state: EngineStateName, detail: str) -> None:
        """Note when the engine worker of this node died or failed."""
        if state != self._engine_state and state in ("restarting", "failed"):
            self._note_here("engine", f"engine worker {state}: {detail}")
        self._engine_state = state

    def with_last_hops(self, peers: tuple[PeerStatus, ...]) -> tuple[PeerStatus, ...]:
        """Return `peers` with what each of them did in the last answer."""
        return tuple(
            replace(peer, last_hop=self._last_hops[peer.peer_id]) if peer.peer_id in self._last_hops else peer
            for peer in peers
        )

    def load_changed(self, *, sessions: int, cache_use: float) -> None:
        """Note how busy this node is: a session may begin and end between two looks."""
        self._most_sessions = max(self._most_sessions, sessions)
        self._most_cache_use = max(self._most_cache_use, cache_use)

    async def follow(self, events: AsyncGenerator[AnswerEvent, None]) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of an answer, and credit every hop with what it computed for it."""
        route: tuple[HopStatus, ...] = ()
        prompt_tokens = 0
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    if isinstance(event, Started):
                        route, prompt_tokens = event.route, event.prompt_tokens
                    elif isinstance(event, Delta) and event.token_ids:
                        # The step that runs the prompt gives the first token, and the last token is not run.
                        num_tokens = len(event.token_ids)
                        self._credit(route, num_tokens, prompt_tokens + num_tokens - bool(prompt_tokens))
                        prompt_tokens = 0
                    elif isinstance(event, Rerouted):
                        self._note_failover(route, event.route)
                        route = event.route
                    elif isinstance(event, Finished):
                        self._note_hops(event.route)
                    yield event
        except GridError as exc:
            # What is wrong with a request is no matter of the swarm.
            if not isinstance(exc, BadInput):
                self._note_here("refused", f"an answer asked for here ended: {exc}")
            raise
        finally:
            self._has_news.set()  # who waited for the answer may look at who did it

    def _credit(self, route: tuple[HopStatus, ...], answer_tokens: int, run_tokens: int) -> None:
        me = show_peer(self._me)
        for hop in route:
            # What this node serves is counted where it is computed, whoever asked.
            if hop.peer_id != me:
                self._tokens[hop.peer_id] += answer_tokens
                self._block_tokens[hop.peer_id] += run_tokens * (hop.end - hop.start)

    def _note_hops(self, route: tuple[HopStatus, ...]) -> None:
        for hop in route:
            if hop.steps:
                self._last_hops.pop(hop.peer_id, None)  # the newest last, so that the oldest goes first
                self._last_hops[hop.peer_id] = hop
        while len(self._last_hops) > MAX_LAST_HOPS:
            del self._last_hops[next(iter(self._last_hops))]

    def _note_failover(self, before: tuple[HopStatus, ...], after: tuple[HopStatus, ...]) -> None:
        staying = {(hop.peer_id, hop.start, hop.end) for hop in after}
        lost = [hop for hop in before if (hop.peer_id, hop.start, hop.end) not in staying]
        for hop in lost[:1]:
            way = " > ".join(f"{h.short} {h.start}:{h.end}" for h in after)
            text = f"dropped out of an answer, which went on along {way}"
            self._tell("failover", hop.peer_id, hop.public_name, text)

    def _look_at_home(self, status: NodeStatus) -> None:
        """Count what this node itself computed since the last look."""
        me = show_peer(self._me)
        served, answered = self._served_block_tokens(), status.computed_answer_tokens
        self._block_tokens[me] += served - self._served
        self._tokens[me] += answered - self._answered
        self._served, self._answered = served, answered

    def _sample(self, peer: PeerStatus, now: float) -> Sample:
        serving = peer.serving
        assert serving is not None
        total = serving.total_cache_tokens
        use = max(0.0, 1.0 - serving.free_cache_tokens / total) if total else 0.0
        at_home = peer.is_self
        return Sample(
            at=now,
            tokens=self._tokens[peer.peer_id],
            sessions=max(serving.open_sessions, self._most_sessions if at_home else 0),
            cache_use=max(use, self._most_cache_use if at_home else 0.0),
        )

    def _note_here(self, kind: ActivityKind, text: str) -> None:
        self._tell(kind, show_peer(self._me), self._status().public_name, text)

    def _tell(self, kind: ActivityKind, peer_id: str, public_name: str, text: str) -> None:
        self._note(
            Activity(
                at=self._clock(),
                kind=kind,
                peer_id=peer_id,
                public_name=public_name,
                text=text[:MAX_TEXT_CHARACTERS],
            )
        )

    def _note(self, activity: Activity) -> None:
        self._waiting.append(activity)
        self._has_news.set()
