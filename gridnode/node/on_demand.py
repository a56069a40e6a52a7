"""A model that is on this computer and that nobody serves is loaded when somebody asks for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gridnode.commands import up_command
from gridnode.engine.locate import complete_models
from gridnode.errors import GridError, ModelLoading, NoCapacity
from gridnode.node.admission import Admission
from gridnode.node.contribution import Contribution
from gridnode.node.model_access import is_named
from gridnode.units import format_seconds

# A model that could not be loaded is not tried for everybody who asks, but memory may be free again soon.
RETRY_S = 30.0


@dataclass(slots=True)
class _Failure:
    location: str
    reason: str
    told_at: float | None = None
    """When somebody who asked was told first, in seconds of the event loop."""


class OnDemand:
    """Begins to serve what is asked for, if this node serves nothing else."""

    def __init__(self, admission: Admission, contribution: Contribution) -> None:
        self._admission = admission
        self._contribution = contribution
        self._failure: _Failure | None = None

    async def load(self, wanted: str) -> None:
        """Begin to load a model that nobody serves; return if it is not here, or others have to serve it.

        Raises:
            ModelLoading: it begins now.
            NoCapacity: it is here, but this node serves another one, is paused, or could not load it.
        """
        if not self._admission.swarm.may_serve:
            return
        names = await asyncio.to_thread(complete_models)
        found = next((name for name in names if is_named(name, wanted)), None)
        if found is None:
            return
        if self._contribution.location not in ("", found):
            raise NoCapacity(
                f"{found} is on this computer, but this node serves {self._contribution.location}; start "
                f"another one: {up_command(found)} --state-dir DIRECTORY --listen 0.0.0.0:0 --api 127.0.0.1:0"
            )
        if reason := self._contribution.pausing.reason:
            raise NoCapacity(f"{found} is on this computer, but this node is paused: {reason}")
        if not self._contribution.location:
            self._refuse_what_failed(found)
            self._contribution.take(found, on_failed=lambda error: self._note_failure(found, error))
        raise ModelLoading(f"{found} is on this computer and is being loaded now; try again in a moment")

    def _refuse_what_failed(self, location: str) -> None:
        failure, now = self._failure, asyncio.get_running_loop().time()
        if failure is None or failure.location != location:
            return
        if failure.told_at is None:
            failure.told_at = now
        elif now - failure.told_at >= RETRY_S:
            return
        remaining_s = RETRY_S - (now - failure.told_at)
        raise NoCapacity(
            f"{location} is on this computer, but cannot be served here: {failure.reason} "
            f"(it is tried again for whoever asks after {format_seconds(remaining_s)})"
        )

    def _note_failure(self, location: str, error: GridError) -> None:
        self._failure = _Failure(location, str(error))
