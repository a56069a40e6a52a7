"""The transports that tests of their common contract run on."""

from __future__ import annotations

import pytest
from transport_worlds import WORLDS, World


@pytest.fixture(autouse=True)
def lanes_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a lane as long as a busy computer takes: a user gets a stream of QUIC instead."""
    monkeypatch.setattr("gridnode.net.lanes.DIAL_TIMEOUT_S", 10.0)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    """A kind of transport."""
    return WORLDS[request.param]()
