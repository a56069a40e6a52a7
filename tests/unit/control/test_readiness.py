"""When a node is ready."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_node import STATUS

from gridnode.control.readiness import readiness
from gridnode.control.status_schema import EngineStatus, PauseStatus

NO_ENGINE = replace(STATUS, engine=EngineStatus(state="none"))


def test_a_node_that_serves_is_ready() -> None:
    assert readiness(STATUS).ready


@pytest.mark.parametrize("state", ["starting", "loading", "restarting", "failed", "stopped"])
def test_a_node_whose_engine_does_not_run_is_not_ready(state: str) -> None:
    engine = EngineStatus(state=state, detail="out of memory")  # type: ignore[arg-type]
    found = readiness(replace(STATUS, engine=engine))
    assert not found.ready
    assert "out of memory" in found.reason


def test_a_node_that_leaves_is_not_ready() -> None:
    assert not readiness(replace(STATUS, state="leaving")).ready


def test_a_node_without_blocks_is_ready_when_others_answer() -> None:
    assert readiness(NO_ENGINE).ready
    gap = replace(STATUS.models[0], gaps=((0, 30),), route="")
    assert readiness(replace(NO_ENGINE, models=(gap,))).reason == "no model of the swarm has a route yet"
    assert not readiness(replace(NO_ENGINE, models=())).ready


@pytest.mark.parametrize(
    ("pause", "reason"),
    [
        (
            PauseStatus(reason="it plays", remaining_s=None),
            "paused until 'gridnode resume': it plays",
        ),
        (
            PauseStatus(reason="it plays", remaining_s=60.0),
            "paused for 60 s more, or until 'gridnode resume': it plays",
        ),
        (
            PauseStatus(reason="on battery", remaining_s=None, is_owners=False),
            "paused until that changes: on battery",
        ),
    ],
)
@pytest.mark.parametrize("state", ["leaving", "paused"])
def test_a_node_that_pauses_says_why_and_how_long(pause: PauseStatus, reason: str, state: str) -> None:
    found = readiness(replace(STATUS, state=state, pause=pause))
    assert (found.ready, found.reason) == (False, reason)
