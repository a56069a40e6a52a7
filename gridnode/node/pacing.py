"""How fast peers really are: measured in the sessions of this node, whatever they announce."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridnode.core.hop_costs import Pace
from gridnode.core.ids import PeerId
from gridnode.core.routing import Route
from gridnode.wire.messages import HopTrace

# A new measurement counts so much; a single late packet does not move a session.
SMOOTHING = 0.1
# What is older says little about now: the peer gets the credit of its announcement again.
MAX_AGE_S = 60.0
# Clocks that did not move in between.
SHORTEST_S = 1e-9
# More than a large swarm has peers.
MAX_MEASURED_PEERS = 4096


@dataclass(frozen=True, slots=True)
class _Measured:
    pace: Pace
    at: float
    """On the event loop's clock."""


class Pacing:
    """The measurements of one node."""

    def __init__(self) -> None:
        self._measured: dict[PeerId, _Measured] = {}
        self._sessions: Counter[PeerId] = Counter()

    def begin(self, route: Route) -> None:
        """Count a session of ours that begins along `route`."""
        self._sessions.update(hop.peer_id for hop in route.hops)

    def end(self, route: Route) -> None:
        """Count a session that ended."""
        self._sessions.subtract(hop.peer_id for hop in route.hops)
        self._sessions = +self._sessions

    @property
    def own_sessions(self) -> Mapping[PeerId, int]:
        """Our sessions at peers now."""
        return self._sessions

    def note(self, route: Route, trace: Sequence[HopTrace], lap_s: float, links_s: float) -> None:
        """Take over what one decode step along `route` took.

        Time that no hop accounts for is laid to all of them alike: a hop that says it was fast, and was
        not, gains nothing.

        Args:
            trace: What each hop said about itself.
            lap_s: From sending the step to its answer, measured here.
            links_s: What the links between take, there and back.
        """
        hidden_s = max(lap_s - links_s - sum(hop.hop_s for hop in trace), 0.0) / len(trace)
        now = asyncio.get_running_loop().time()
        for hop, did in zip(route.hops, trace, strict=False):
            block_s = max(did.compute_s / len(hop.span), SHORTEST_S)
            wait_s = max(did.hop_s - did.compute_s, 0.0) + hidden_s
            before = self._measured.pop(hop.peer_id, None)
            if before is not None and now - before.at < MAX_AGE_S:
                block_s = _mixed(before.pace.block_s, block_s)
                wait_s = _mixed(before.pace.wait_s, wait_s)
            self._measured[hop.peer_id] = _Measured(Pace(block_s, wait_s), now)
        while len(self._measured) > MAX_MEASURED_PEERS:
            del self._measured[next(iter(self._measured))]  # the one that was measured longest ago

    def paces(self) -> dict[PeerId, Pace]:
        """Return what was measured lately."""
        oldest = asyncio.get_running_loop().time() - MAX_AGE_S
        return {peer_id: found.pace for peer_id, found in self._measured.items() if found.at >= oldest}


def _mixed(before: float, new: float) -> float:
    return before + SMOOTHING * (new - before)
