"""The transports that tests of their common contract run on."""

from __future__ import annotations

import pytest
from transport_worlds import WORLDS, World


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    """A kind of transport."""
    return WORLDS[request.param]()
