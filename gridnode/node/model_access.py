"""The models of the swarm, by the names that people use, and the way into sessions on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gridnode.core.announcements import PeerState
from gridnode.core.ids import ModelId
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import Aim, Route
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.core.spans import Span, gaps
from gridnode.engine.text import TextCodec
from gridnode.engine.tuned_tensors import NOTHING_ADDED, Added
from gridnode.errors import BadInput, ModelLoading, ModelUnknown, NoCapacity, NoRoute
from gridnode.node.block_call import BlockCall
from gridnode.node.links import Links
from gridnode.node.pacing import Pacing
from gridnode.node.session_opener import SessionOpener
from gridnode.node.status import SwarmView

_SERVING_SOON = frozenset({PeerState.ONLINE, PeerState.JOINING})


class ModelAccess:
    """What a node needs to ask a model of the swarm something.

    Args:
        pacing: Takes over what sessions measure.
        view: Returns the swarm as it is now.
        wait_change: Returns once the view may have changed.
        codec: Returns the text side of a model; raises a `GridError` if there is none.
        on_unknown: Called with the name of a model that nobody serves; raises a `GridError` if it knows
            more than that.
        loading: Returns how many blocks the engine of this node has loaded, and how many it will have.
    """

    def __init__(
        self,
        links: Links,
        *,
        pacing: Pacing,
        view: Callable[[], SwarmView],
        wait_change: Callable[[], Awaitable[None]],
        codec: Callable[[ModelId], Awaitable[TextCodec]],
        on_unknown: Callable[[str], Awaitable[None]],
        loading: Callable[[], tuple[int, int]],
    ) -> None:
        self.view = view
        self.codec = codec
        self.links = links
        self._pacing = pacing
        self._wait_change = wait_change
        self._on_unknown = on_unknown
        self._loading = loading

    async def resolve(self, wanted: str) -> tuple[ModelId, int]:
        """Return the model that `wanted` names, and its blocks.

        Args:
            wanted: A name, the last part of one, or the start of a manifest hash; empty is the only model.

        Raises:
            ModelUnknown: nobody serves such a model.
            ModelLoading: this node begins to load it now.
            BadInput: several have that name.
        """
        found = self.named(wanted)
        if len(found) == 1:
            return found[0]
        known = ", ".join(str(model) for model in sorted(self.view().swarm.models())) or "none yet"
        if found:
            raise BadInput(f"{wanted or 'the swarm'} has several models, name one: {known}")
        if wanted:
            await self._on_unknown(wanted)
        raise ModelUnknown(f"nobody in the swarm serves {wanted or 'a model'}; served now: {known}")

    def named(self, wanted: str) -> list[tuple[ModelId, int]]:
        """Return the models that `wanted` may mean, as that of `resolve`, and their blocks."""
        return [
            (model, num_blocks)
            for model, num_blocks in sorted(self.view().swarm.models().items())
            if not wanted
            or is_named(model.name, wanted)
            or (len(wanted) >= 6 and model.manifest.startswith(wanted))
        ]

    def route(
        self,
        model: ModelId,
        num_blocks: int,
        part: Span | None = None,
        *,
        wishes: RouteWishes = ANYWHERE,
    ) -> Route:
        """Return the route of lowest latency; whether it has room is another question.

        Raises:
            NoRoute: some blocks are served by nobody.
            ModelLoading: they will be soon.
        """
        view = self.view()
        try:
            return view.route(model, num_blocks, cache_tokens=0, part=part, wishes=wishes)
        except NoRoute as exc:
            soon = view.swarm.spans(model, states=_SERVING_SOON)
            if gaps(soon, num_blocks) or exc.is_limited:
                raise
            loaded, wanted = self._loading()
            here = f"; {loaded} of {wanted} blocks of this node are ready" if wanted else ""
            raise ModelLoading(
                f"{model.name} is being loaded{here}; try again in a moment",
                loaded_blocks=loaded,
                wanted_blocks=wanted,
            ) from None

    def is_loading(self, call: BlockCall) -> bool:
        """Return whether nobody serves the blocks of `call` now, but somebody soon will."""
        try:
            self.route(call.model, call.num_blocks, call.part, wishes=call.wishes)
        except ModelLoading:
            return True
        except NoCapacity:
            return False
        return False

    def context_tokens(
        self,
        model: ModelId,
        num_blocks: int,
        part: Span | None = None,
        *,
        wishes: RouteWishes = ANYWHERE,
    ) -> int:
        """Return the longest session that the best route takes, through some blocks or all of them.

        Raises:
            NoRoute, ModelLoading: as `route`.
        """
        return self.view().context_tokens(self.route(model, num_blocks, part, wishes=wishes))

    def opener(
        self,
        model: ModelId,
        num_blocks: int,
        *,
        max_tokens: int,
        sampling: SamplingParams = GREEDY,
        part: Span | None = None,
        wishes: RouteWishes = ANYWHERE,
        aim: Aim = Aim.LATENCY,
        batch: int = 1,
        added: Added = NOTHING_ADDED,
    ) -> SessionOpener:
        """Return what opens sessions of `max_tokens` on `model`, or on some blocks of it."""
        return SessionOpener(
            self.links,
            pacing=self._pacing,
            view=self.view,
            wait_change=self._wait_change,
            model=model,
            num_blocks=num_blocks,
            max_tokens=max_tokens,
            sampling=sampling,
            part=part,
            wishes=wishes,
            aim=aim,
            batch=batch,
            added=added,
        )


def is_named(name: str, wanted: str) -> bool:
    """Return whether `wanted` is `name`, or its last part."""
    return wanted in (name, name.rsplit("/", 1)[-1])
