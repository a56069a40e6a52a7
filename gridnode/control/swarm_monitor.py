"""A node as a public monitor shows it: whom it really reaches, and only addresses that may be known."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from gridnode.control.answer_schema import AnswerEvent, Embedded, EmbedRequest, GenerateRequest
from gridnode.control.history import Activity, History, Sample, Work
from gridnode.control.interface import NodeControl
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.control.status_schema import NodeStatus, PauseRequest, PeerStatus
from gridnode.errors import GridError, PeerLost

logger = logging.getLogger("gridnode.control.monitor")

# What was found holds this long: nobody has a peer dialled more often by asking again.
CHECK_TTL_S = 300.0
CHECK_TIMEOUT_S = 5.0
# Between two rounds over all peers.
ROUND_INTERVAL_S = 60.0
# Dials at once; a burst of more looks like an attack to some networks.
MAX_CHECKS_AT_ONCE = 16

_HIDDEN = "(address not published)"
_ADDRESS = re.compile(
    r"\[[0-9a-fA-F:]{2,}(?:%\w+)?\](?::\d+)?"  # IPv6, as it stands in URLs
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{1,4})*"
)


@dataclass(frozen=True, slots=True)
class _Check:
    at: float
    """Time of the event loop."""

    rtt_s: float | None
    problem: str


class SwarmMonitor:
    """Implements `NodeControl` on top of the one of a node. Run `watch` beside it.

    A peer that announces itself and does not answer is `unreachable`, with the reason.
    """

    def __init__(self, control: NodeControl) -> None:
        self._control = control
        self._checks: dict[str, _Check] = {}
        self._under_way: dict[str, asyncio.Task[_Check]] = {}
        self._limit = asyncio.Semaphore(MAX_CHECKS_AT_ONCE)
        self.history: History = _DiscreetHistory(control.history)

    def status(self) -> NodeStatus:
        """Return what the node is doing, and which peers can be reached."""
        status = self._control.status()
        return replace(status, peers=tuple(map(self._shown, status.peers)))

    async def wait_change(self) -> None:
        """See `NodeControl.wait_change`."""
        await self._control.wait_change()

    def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """See `NodeControl.generate`."""
        return self._control.generate(request)

    def pause(self, request: PauseRequest) -> None:
        """See `NodeControl.pause`."""
        self._control.pause(request)

    def resume(self) -> None:
        """See `NodeControl.resume`."""
        self._control.resume()

    async def score(self, request: ScoreRequest) -> Scored:
        """See `NodeControl.score`."""
        return await self._control.score(request)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """See `NodeControl.embed`."""
        return await self._control.embed(request)

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        """See `NodeControl.tokenize`."""
        return await self._control.tokenize(request)

    async def reach(self, peer_id: str) -> float | None:
        """Return what the last check found, at most `CHECK_TTL_S` old; see `NodeControl.reach`."""
        if not any(peer.peer_id == peer_id for peer in self._control.status().peers):
            # Nothing is remembered of peers that nobody has heard of.
            return await self._control.reach(peer_id)
        now = asyncio.get_running_loop().time()
        check = self._checks.get(peer_id)
        if check is None or now - check.at > CHECK_TTL_S:
            task = self._under_way.get(peer_id)
            if task is None:
                task = asyncio.create_task(self._check(peer_id), name="check")
                self._under_way[peer_id] = task
            check = await asyncio.shield(task)
        if check.problem:
            raise PeerLost(check.problem)
        return check.rtt_s

    async def watch(self) -> None:
        """Check all peers again and again, until cancelled."""
        while True:
            peers = [peer.peer_id for peer in self._control.status().peers if not peer.is_self]
            for gone in self._checks.keys() - set(peers):
                del self._checks[gone]
            await asyncio.gather(*map(self.reach, peers), return_exceptions=True)
            await asyncio.sleep(ROUND_INTERVAL_S)

    async def _check(self, peer_id: str) -> _Check:
        rtt_s, problem = None, ""
        try:
            async with self._limit, asyncio.timeout(CHECK_TIMEOUT_S):
                rtt_s = await self._control.reach(peer_id)
        except TimeoutError:
            problem = f"no answer within {CHECK_TIMEOUT_S:g} s"
        except GridError as exc:
            problem = discreet(str(exc))
        finally:
            del self._under_way[peer_id]
        check = _Check(asyncio.get_running_loop().time(), rtt_s, problem)
        self._checks[peer_id] = check
        if problem:
            logger.info("%s cannot be reached: %s", peer_id[:8], problem)
        return check

    def _shown(self, peer: PeerStatus) -> PeerStatus:
        check = self._checks.get(peer.peer_id)
        if check is not None and check.problem and peer.path == "none":
            peer = replace(peer, state="unreachable", problem=check.problem)
        return peer if peer.publishes_address or peer.is_self else replace(peer, address="")


def discreet(text: str) -> str:
    """Return `text` without the addresses in it."""
    return _ADDRESS.sub(_HIDDEN, text)


class _DiscreetHistory:
    """The history without addresses: errors may name some."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def activity(
        self, *, before: int | None = None, limit: int = 50, peer_id: str = "", kind: str = ""
    ) -> tuple[Activity, ...]:
        found = await self._history.activity(before=before, limit=limit, peer_id=peer_id, kind=kind)
        return tuple(replace(activity, text=discreet(activity.text)) for activity in found)

    async def samples(self, peer_id: str) -> tuple[Sample, ...]:
        return await self._history.samples(peer_id)

    async def work(self) -> tuple[Work, ...]:
        return await self._history.work()
