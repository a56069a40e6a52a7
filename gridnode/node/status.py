"""Putting what a node knows into the words of the door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from gridnode.control.answer_schema import HopStatus
from gridnode.control.status_schema import LinkStatus, ModelStatus, PeerStatus, ServingStatus
from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement, Serving
from gridnode.core.hop_costs import HopCosts, Pace, announced_links
from gridnode.core.ids import ModelId, PeerId, short, show_peer
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import Aim, Route, RouteRequest, expected_step_s, lowest_latency_route
from gridnode.core.spans import Span
from gridnode.core.swarm import SwarmState
from gridnode.core.throughput_route import highest_throughput_route
from gridnode.errors import BadInput, ModelUnknown, NoCapacity
from gridnode.net.carrier import PathKind
from gridnode.net.transport import Connection

# Nodes announce their shortest links first. All of them, for 500 nodes, would be a megabyte per status.
MAX_SHOWN_LINKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmView:
    """The swarm as one node sees it at one moment, with its own links."""

    me: PeerId
    swarm: SwarmState
    connections: Mapping[PeerId, Connection]
    is_near: Callable[[Address], bool] = lambda address: False
    """Whether an address is on a network of this machine, with no router between."""

    paces: Mapping[PeerId, Pace] = field(default_factory=dict)
    """How fast peers were in our own sessions."""

    own_sessions: Mapping[PeerId, int] = field(default_factory=dict)
    """Our own sessions at peers now."""

    def rtts(self) -> dict[PeerId, float]:
        """Return the measured round-trip times in seconds; this node is no time away from itself."""
        measured = {key: conn.rtt_s for key, conn in self.connections.items() if conn.rtt_s is not None}
        return {self.me: 0.0, **measured}

    def route(
        self,
        model: ModelId,
        num_blocks: int,
        *,
        cache_tokens: int,
        part: Span | None = None,
        avoid: frozenset[PeerId] = frozenset(),
        wishes: RouteWishes = ANYWHERE,
        aim: Aim = Aim.LATENCY,
        adapter: str = "",
    ) -> Route:
        """Return the best route for a session of `cache_tokens`; see `RouteRequest`.

        Raises:
            NoRoute, CacheFull: as `lowest_latency_route`.
            NoCapacity, BadInput: as `RouteWishes.limit`.
        """
        announcements = self.swarm.serving(model)
        request = wishes.limit(
            RouteRequest(
                model=model,
                num_blocks=num_blocks,
                cache_tokens=cache_tokens,
                part=part,
                adapter=adapter,
                avoid=avoid,
            ),
            announcements,
            me=self.me,
        )
        choose = highest_throughput_route if aim is Aim.THROUGHPUT else lowest_latency_route
        return choose(announcements, request, self._costs(announcements))

    def adapter_id(self, model: ModelId, wanted: str) -> str:
        """Return the adapter that `wanted` names: all of its announced name, or what stands before the `@`.

        Raises:
            ModelUnknown: nobody hosts it for this model.
            BadInput: several have that name.
        """
        servings = [ann.serving for ann in self.swarm.serving(model) if ann.serving]
        hosted = sorted({name for serving in servings for name in serving.adapters})
        found = [name for name in hosted if wanted in (name, name.rpartition("@")[0])]
        known = ", ".join(hosted) or "none"
        if not found:
            raise ModelUnknown(f"nobody hosts an adapter {wanted!r} for {model.name}; hosted: {known}")
        if len(found) > 1:
            raise BadInput(f"several adapters are called {wanted!r}, name one: {', '.join(found)}")
        return found[0]

    def expected_step_s(self, model: ModelId, route: Route) -> float:
        """Return how long one token takes along `route`, as far as is known."""
        announcements = self.swarm.serving(model)
        return expected_step_s(route, announcements, self._costs(announcements))

    def links_s(self, model: ModelId, route: Route) -> float:
        """Return what the links of `route` take of one step, there and back."""
        peers = [None, *(hop.peer_id for hop in route.hops), None]
        links = self._costs(self.swarm.serving(model)).links
        return sum(links.one_way_s(before, after) for before, after in pairwise(peers))

    def _costs(self, announcements: Iterable[Announcement]) -> HopCosts:
        links = announced_links(announcements, self.rtts())
        return HopCosts(links=links, paces=self.paces, own_sessions=self.own_sessions)

    def hops(self, route: Route) -> tuple[HopStatus, ...]:
        """Return the hops of `route` in the words of the door."""
        rtts = self.rtts()
        return tuple(
            HopStatus(
                peer_id=show_peer(hop.peer_id),
                short=short(hop.peer_id),
                public_name=self._name(hop.peer_id),
                start=hop.span.start,
                end=hop.span.end,
                rtt_s=rtts.get(hop.peer_id),
            )
            for hop in route.hops
        )

    def _name(self, peer_id: PeerId) -> str:
        peer = self.swarm.peers.get(peer_id)
        return peer.announcement.public_name if peer else ""

    def models(self) -> tuple[ModelStatus, ...]:
        """Return every model of the swarm with its gaps and its present route."""
        return tuple(
            self._model(model, num_blocks) for model, num_blocks in sorted(self.swarm.models().items())
        )

    def _model(self, model: ModelId, num_blocks: int) -> ModelStatus:
        try:
            route: Route | None = self.route(model, num_blocks, cache_tokens=1)
        except NoCapacity:
            route = None
        return ModelStatus(
            name=model.name,
            manifest=model.manifest,
            num_blocks=num_blocks,
            gaps=tuple((gap.start, gap.end) for gap in self.swarm.gaps(model, num_blocks)),
            min_replicas=min(self.swarm.coverage(model, num_blocks), default=0),
            context_tokens=self.context_tokens(route) if route else 0,
            route=" > ".join(f"{short(hop.peer_id)} {hop.span}" for hop in route.hops) if route else "",
            route_peers=tuple(show_peer(hop.peer_id) for hop in route.hops) if route else (),
            expected_tokens_per_s=1.0 / self.expected_step_s(model, route) if route else 0.0,
        )

    def context_tokens(self, route: Route) -> int:
        """Return the longest session that every hop of `route` takes."""
        servings = [self.swarm.peers[hop.peer_id].announcement.serving for hop in route.hops]
        return min(serving.max_session_tokens for serving in servings if serving)

    def peers(self) -> tuple[PeerStatus, ...]:
        """Return every peer, this node first, then by span."""

        def order(announcement: Announcement) -> tuple[bool, int, PeerId]:
            serving = announcement.serving
            return (
                announcement.peer_id != self.me,
                serving.span.start if serving else 1 << 20,
                announcement.peer_id,
            )

        announcements = sorted((peer.announcement for peer in self.swarm.peers.values()), key=order)
        return tuple(self._peer(announcement) for announcement in announcements)

    def _path(self, connection: Connection | None) -> str:
        if connection is None:
            return "none"
        is_near = connection.path is PathKind.DIRECT and self.is_near(connection.address)
        return "lan" if is_near else connection.path.value

    def _peer(self, announcement: Announcement) -> PeerStatus:
        is_self = announcement.peer_id == self.me
        connection = self.connections.get(announcement.peer_id)
        return PeerStatus(
            peer_id=show_peer(announcement.peer_id),
            short=short(announcement.peer_id),
            public_name=announcement.public_name,
            version=announcement.version,
            state=announcement.state.value,
            is_self=is_self,
            path="self" if is_self else self._path(connection),
            address=str(connection.address)
            if connection
            else ", ".join(map(str, announcement.addresses[:1])),
            rtt_s=connection.rtt_s if connection else None,
            serving=_serving_status(announcement.serving),
            links=tuple(
                LinkStatus(peer_id=show_peer(peer_id), rtt_s=rtt_s)
                for peer_id, rtt_s in announcement.rtts[: MAX_SHOWN_LINKS + 1]
                if peer_id != announcement.peer_id
            ),
            publishes_address=announcement.publishes_address,
            pause_reason=announcement.pause_reason,
        )


def _serving_status(serving: Serving | None) -> ServingStatus | None:
    if serving is None:
        return None
    return ServingStatus(
        model=serving.model.name,
        manifest=serving.model.manifest,
        num_blocks=serving.num_blocks,
        start=serving.span.start,
        end=serving.span.end,
        quantization=serving.quantization.value,
        has_embeddings=serving.has_embeddings,
        has_head=serving.has_head,
        max_session_tokens=serving.max_session_tokens,
        free_cache_tokens=serving.free_cache_tokens,
        decode_tokens_per_s=1.0 / (serving.decode_block_s * len(serving.span)),
        total_cache_tokens=serving.total_cache_tokens,
        open_sessions=serving.open_sessions,
    )
