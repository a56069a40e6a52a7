"""The ways to one peer: which there are, which works, and which packets take. Pure: the time is an argument.

The first packets go over all relays that the peer may be behind. Probes find out what else works, and
packets take the best of it: direct before punched before relayed. While data flows, the present way is probed
twice a second; when an answer is late, packets go by the relays too until one comes, or another way
takes over. If none does and nobody is connected to the peer any more, it is left alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gridnode.net.carrier import RELAYED, PathKind
from gridnode.wire.relay_packets import Probe, make_probe

PROBE_INTERVAL_S = 0.5
"""Between probes of the way in use, while data flows."""

MIN_PATIENCE_S = 0.3
PATIENCE_RTTS = 3.0
"""An answer is late after so many round trips, and `MIN_PATIENCE_S` at least."""

DOUBT_INTERVAL_S = 0.25
"""Between probes of all ways, while the one in use is in doubt."""

GIVE_UP_S = 3.0
"""Of doubt after which another way takes over, or the peer is left alone."""

MIN_GAIN_S = 0.005
"""By which a way of the same kind must be faster to be chosen."""

LOW_HOPS = 4
"""Routers that first probes may pass: they open our router for the peer, and die before they reach its own.

Some routers answer packets that nobody asked for, and then do not let the peer's own packets to us through.
"""

# In seconds after the start: probes that open our router, and those that should arrive.
_OPENING_S = (0.0, 0.033)
_ARRIVING_S = (0.0, 0.033, 0.1, 0.233, 0.5, 1.0, 2.0, 3.0)
ROUND_S = 4.0
"""A round of probes to addresses that may work."""

# Both sides of NATs with many addresses, and what probes were seen from.
MAX_ROUTES = 24
# Probes of a minute at their fastest, to all routes.
_MAX_WAITING = 1024

_RANK = {kind: rank for rank, kind in enumerate(PathKind)}

Route = Hashable
"""A way to the peer, in the words of whoever sends: an address, or a relay."""


@dataclass(slots=True)
class Path:
    """What is known of one way."""

    route: Route
    kind: PathKind
    rtt_s: float | None = None
    proved_at: float | None = None
    """When the last answer to a probe came; None if none did."""

    @property
    def is_relayed(self) -> bool:
        """Whether a relay forwards packets on this way."""
        return self.kind in RELAYED


class Sending(NamedTuple):
    """A probe to send."""

    route: Route
    data: bytes
    hops: int | None = None
    """Routers that it may pass; None is no limit."""


class PeerPaths:
    """The ways to one peer.

    Args:
        tag: What the peer calls us, see `gridnode.core.relays.peer_tag`.
        secret: With which the peer makes probes for us.
        first_number: Of probes; at random, so that answers to an earlier life of ours mean nothing.
    """

    def __init__(self, *, tag: bytes, secret: bytes, first_number: int) -> None:
        self.secret = secret
        self.active: Path | None = None
        self._tag = tag
        self._peer_secret: bytes | None = None
        self._number = first_number
        self._paths: dict[Route, Path] = {}
        self._planned: list[tuple[float, Route, int | None]] = []
        self._waiting: dict[int, tuple[Route, float]] = {}
        self._round_ends_at = 0.0
        self._has_sent = False
        self._probed_at = 0.0
        self._unanswered_since: float | None = None
        self._doubt_since: float | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the way in use may have ended."""
        return self._doubt_since is not None

    @property
    def has_direct(self) -> bool:
        """Whether a way without a relay is in use, without doubt."""
        return self.active is not None and not self.active.is_relayed and not self.is_in_doubt

    def paths(self) -> list[Path]:
        """Return every way, those included that were never seen to work."""
        return list(self._paths.values())

    # --- what is known of the peer ---

    def accept_secret(self, peer_secret: bytes) -> None:
        """Make probes with `peer_secret` from now on."""
        self._peer_secret = peer_secret

    def add(self, route: Route, kind: PathKind) -> bool:
        """Learn of a way, or of its kind; return whether it is known now."""
        path = self._paths.get(route)
        if path is None:
            if len(self._paths) >= MAX_ROUTES and not self._make_room():
                return False
            self._paths[route] = Path(route, kind)
        else:
            path.kind = kind
        return True

    def remove(self, route: Route) -> bool:
        """Forget a way; return whether packets go another one now."""
        path = self._paths.pop(route, None)
        if path is None or path is not self.active:
            return False
        self._stop_doubting()
        self.active = None
        proven = [each for each in self._paths.values() if each.proved_at is not None]
        if proven:
            self.active = min(proven, key=lambda each: (_RANK[each.kind], each.rtt_s or 0.0))
        return True

    def _make_room(self) -> bool:
        """Forget a way that was never seen to work."""
        for route, path in self._paths.items():
            if path.proved_at is None and not path.is_relayed:
                del self._paths[route]
                return True
        return False

    # --- data ---

    def routes(self) -> list[Route]:
        """Return the ways for the next data: one, or several while it is not known which works."""
        self._has_sent = True
        if self.active is None:
            relayed = [path.route for path in self._paths.values() if path.is_relayed]
            return relayed or list(self._paths)
        if self._doubt_since is None:
            return [self.active.route]
        others = [path.route for path in self._paths.values() if path.is_relayed and path is not self.active]
        return [self.active.route, *others]

    # --- probes ---

    def open_to(self, routes: Iterable[Route], *, now: float) -> None:
        """Open our router for probes from addresses behind other routers, without reaching these."""
        self._begin(now)
        for route in routes:
            self._plan(route, now, _OPENING_S, LOW_HOPS)

    def begin_round(self, routes: Iterable[Route], *, now: float) -> None:
        """Send probes to addresses that may work."""
        self._begin(now)
        for route in routes:
            self._plan(route, now, _ARRIVING_S)
        self.prove_relays(now=now)

    def _begin(self, now: float) -> None:
        self._round_ends_at = now + ROUND_S
        self._planned = [plan for plan in self._planned if plan[1] in self._paths]

    def guess(self) -> bytes:
        """Return a probe to send anywhere: not its answer counts, but the probe that the peer sends then."""
        assert self._peer_secret is not None, "an offer comes first"
        return make_probe(is_answer=False, tag=self._tag, number=0, secret=self._peer_secret)

    def prove_relays(self, *, now: float) -> None:
        """Probe every way through a relay."""
        for path in self._paths.values():
            if path.is_relayed:
                self._plan(path.route, now, (0.0,))

    def _plan(self, route: Route, now: float, after_s: Iterable[float], hops: int | None = None) -> None:
        if route in self._paths:
            self._planned += [(now + each_s, route, hops) for each_s in after_s]

    def doubt(self, *, now: float) -> None:
        """Take the hint that the way in use may have ended: use all until one answers."""
        if self.active is not None and self._doubt_since is None and self._peer_secret is not None:
            self._doubt_since = now
            self._plan_doubt(now)

    def _plan_doubt(self, now: float) -> None:
        for path in self._paths.values():
            if path.is_relayed or path is self.active or path.proved_at is not None:
                self._planned.append((now, path.route, None))

    def is_hopeless(self, *, now: float) -> bool:
        """Return whether no way has answered for so long that another one would have taken over."""
        return self._doubt_since is not None and now - self._doubt_since >= GIVE_UP_S

    def rest(self) -> None:
        """Stop all probes, and forget all ways but relays: the next data goes over these, as the first."""
        self._stop_doubting()
        self._planned.clear()
        self._has_sent = False
        self.active = None
        for path in self.paths():
            path.proved_at = None
            if not path.is_relayed:
                del self._paths[path.route]

    def next_deadline(self) -> float | None:
        """Return when to call `handle_timer`, or None if there is nothing to wait for."""
        times = [due for due, _, _ in self._planned]
        if self._round_ends_at:
            times.append(self._round_ends_at)
        if self._doubt_since is not None:
            times.append(self._probed_at + DOUBT_INTERVAL_S)
        elif self.active is not None and self._peer_secret is not None:
            if self._unanswered_since is not None:
                times.append(self._unanswered_since + self._patience_s(self.active))
            if self._has_sent:
                times.append(self._probed_at + PROBE_INTERVAL_S)
        return min(times, default=None)

    def handle_timer(self, *, now: float) -> list[Sending]:
        """Return the probes to send now. Look at `active` afterwards: it may have changed."""
        self._watch_active(now)
        if self._round_ends_at and now >= self._round_ends_at:
            self._end_round()
        due = [plan for plan in self._planned if plan[0] <= now]
        self._planned = [plan for plan in self._planned if plan[0] > now]
        if self._peer_secret is None:
            return []
        return [self._probe(route, now, hops) for _, route, hops in due if route in self._paths]

    def _watch_active(self, now: float) -> None:
        active = self.active
        if active is None or self._peer_secret is None:
            return
        if self._doubt_since is None:
            if self._has_sent and now >= self._probed_at + PROBE_INTERVAL_S:
                self._planned.append((now, active.route, None))
            late_at = self._unanswered_since
            if late_at is not None and now >= late_at + self._patience_s(active):
                self.doubt(now=now)
        elif now - self._doubt_since >= GIVE_UP_S and self._switch_from(active):
            return
        elif now >= self._probed_at + DOUBT_INTERVAL_S:
            self._plan_doubt(now)

    def _switch_from(self, active: Path) -> bool:
        """Take the best way that answered since the doubt began, if any did."""
        assert self._doubt_since is not None
        alive = [
            path
            for path in self._paths.values()
            if path is not active and path.proved_at is not None and path.proved_at >= self._doubt_since
        ]
        if not alive:
            return False
        if not active.is_relayed:
            del self._paths[active.route]
        active.proved_at = None
        self._activate(min(alive, key=lambda path: (_RANK[path.kind], path.rtt_s or 0.0)))
        return True

    def _end_round(self) -> None:
        self._round_ends_at = 0.0
        for path in self.paths():
            if path.proved_at is None and not path.is_relayed:
                del self._paths[path.route]

    def _probe(self, route: Route, now: float, hops: int | None) -> Sending:
        assert self._peer_secret is not None
        self._number = (self._number + 1) % 2**64
        self._waiting[self._number] = (route, now)
        while len(self._waiting) > _MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        if self.active is not None and route == self.active.route:
            self._probed_at, self._has_sent = now, False
            if self._unanswered_since is None:
                self._unanswered_since = now
        data = make_probe(is_answer=False, tag=self._tag, number=self._number, secret=self._peer_secret)
        return Sending(route, data, hops)

    def receive(self, probe: Probe, route: Route, kind: PathKind, *, now: float) -> list[Sending]:
        """Take a probe or an answer that came by `route`; return what to send.

        Args:
            kind: Of the route, if it is a new one.
        """
        if not probe.is_made_with(self.secret):
            return []
        if probe.is_answer:
            self._answered(probe.number, route, now)
            return []
        if self._peer_secret is None or not (route in self._paths or self.add(route, kind)):
            return []
        answer = make_probe(is_answer=True, tag=self._tag, number=probe.number, secret=self._peer_secret)
        sendings = [Sending(route, answer)]
        if self._paths[route].proved_at is None:
            # The peer comes this way: perhaps we can go it, too.
            sendings.append(self._probe(route, now, None))
            self._round_ends_at = max(self._round_ends_at, now + 1.0)
        return sendings

    def _answered(self, number: int, route: Route, now: float) -> None:
        asked, sent_at = self._waiting.pop(number, (None, 0.0))
        path = self._paths.get(route)
        if path is None or asked != route:
            return
        rtt_s = now - sent_at
        path.rtt_s = rtt_s if path.rtt_s is None else 0.75 * path.rtt_s + 0.25 * rtt_s
        path.proved_at = now
        if path is self.active:
            self._stop_doubting()
        elif self.active is None or self._is_better(path, self.active):
            self._activate(path)

    def _is_better(self, path: Path, than: Path) -> bool:
        if path.kind is not than.kind:
            return _RANK[path.kind] < _RANK[than.kind]
        if than.rtt_s is None or path.rtt_s is None:
            return than.rtt_s is None
        return path.rtt_s < than.rtt_s - MIN_GAIN_S

    def _activate(self, path: Path) -> None:
        self.active = path
        self._stop_doubting()

    def _stop_doubting(self) -> None:
        self._doubt_since = self._unanswered_since = None

    @staticmethod
    def _patience_s(path: Path) -> float:
        return max(MIN_PATIENCE_S, PATIENCE_RTTS * (path.rtt_s or 0.0))
