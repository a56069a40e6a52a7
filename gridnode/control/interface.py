"""The narrow door to a node: what a node offers to the HTTP interface, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from gridnode.control.answer_schema import AnswerEvent, Embedded, EmbedRequest, GenerateRequest
from gridnode.control.history import History
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.control.status_schema import NodeStatus, PauseRequest


class NodeControl(Protocol):
    """A running node, as the door sees it."""

    @property
    def history(self) -> History:
        """What the node remembers of the swarm."""
        ...

    def status(self) -> NodeStatus:
        """Return what the node is doing now."""
        ...

    async def wait_change(self) -> None:
        """Return once `status` may have changed since the call. Cancelling is safe."""
        ...

    async def reach(self, peer_id: str) -> float | None:
        """Ping a peer and return the round-trip time in seconds, or None if only that it answers is known.

        Dials a peer that is known and not connected. Cancelling is safe.

        Raises:
            PeerLost: nobody knows the peer, or it does not answer.
        """
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Answer `request`: any number of `Waiting`, one `Started`, any number of `Delta`,
        `Rerouted` and `Waiting`, one `Finished`.

        Closing the generator cancels the session and frees its leases on every hop at once.

        Raises:
            BadInput: the request cannot be answered as it is.
            ModelUnknown: nobody serves the model.
            ContextFull: the prompt does not fit.
            NoRoute: a block is served by nobody.
            CacheFull: no route has enough free KV cache.
            GridError: anything else that ended the session.
        """
        ...

    def pause(self, request: PauseRequest) -> None:
        """Serve no blocks for a while: sessions move to other nodes, then the memory is freed."""
        ...

    def resume(self) -> None:
        """End a pause at once. Without one, nothing happens."""
        ...

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Return a vector for each text of `request`. Cancelling frees the leases at once.

        Raises:
            GridError: as `generate`.
        """
        ...

    async def score(self, request: ScoreRequest) -> Scored:
        """Return how probable the texts of `request` are. Cancelling frees the leases at once.

        Raises:
            GridError: as `generate`.
        """
        ...

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        """Return the token ids of the prompt that `request` makes, without asking the swarm anything.

        Raises:
            BadInput: the request cannot be answered as it is.
            ModelUnknown: nobody serves the model.
            GridError: this node cannot read the model's tokenizer.
        """
        ...
