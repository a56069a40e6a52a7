from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gridnode.api import auto_model
from gridnode.api.client_node import _held
from gridnode.config.swarm_file import SwarmFile
from gridnode.core.addresses import Address
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey

KEY = SwarmKey(seed=bytes(range(32)), made_s=1_700_000_000, older_until_s=1_700_000_000)


def test_a_program_is_in_the_private_swarm_of_its_computer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDNODE_NODE_STATE_DIR", str(tmp_path))
    kept = Invitation(swarm=SwarmPass(name="grandma", keys=(KEY,)))
    SwarmFile(tmp_path).write(kept)
    assert _held("home") == kept, "home is what nobody named"
    assert _held("grandma") == kept
    assert _held("lab") == Invitation(swarm=SwarmPass(name="lab"))


def test_the_swarm_of_this_computer_is_found_in_a_notebook_too() -> None:
    """Where an event loop runs already."""

    async def cell() -> object:
        return auto_model._found_here(Address("127.0.0.1", 1))  # nobody listens there

    assert asyncio.run(cell()) == ((), "home")
