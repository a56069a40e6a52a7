"""A model that is on this computer and that nobody serves is loaded when somebody asks for it."""

from __future__ import annotations

import asyncio

from gridnode.engine.locate import complete_models
from gridnode.errors import ModelLoading, NoCapacity
from gridnode.node.admission import Admission
from gridnode.node.contribution import Contribution
from gridnode.node.model_access import is_named


class OnDemand:
    """Begins to serve what is asked for, if this node serves nothing else."""

    def __init__(self, admission: Admission, contribution: Contribution) -> None:
        self._admission = admission
        self._contribution = contribution

    async def load(self, wanted: str) -> None:
        """Begin to load a model that nobody serves; return if it is not here, or others have to serve it.

        Raises:
            ModelLoading: it begins now.
            NoCapacity: it is here, but this node serves another one.
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
                f"another one with 'gridnode up --model {found} --state-dir DIRECTORY --listen 0.0.0.0:0 "
                "--api 127.0.0.1:0'"
            )
        if not self._contribution.location:
            self._contribution.take(found)
        raise ModelLoading(f"{found} is on this computer and is being loaded now; try again in a moment")
