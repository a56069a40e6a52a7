from __future__ import annotations

from fake_node import FakeNode
from starlette.testclient import TestClient

from gridnode.control.door import create_door


def test_a_pause_begins_and_ends_at_the_door() -> None:
    node = FakeNode()
    with TestClient(create_door(node), base_url="http://127.0.0.1", client=("127.0.0.1", 5000)) as door:
        paused = door.post("/api/v1/pause", json={"duration_s": 60, "reason": "play"}).json()
        assert paused["pause"] == {"reason": "play", "remaining_s": 60, "is_owners": True}
        assert door.get("/ready").status_code == 503
        assert "resume" in door.get("/ready").json()["reason"]
        assert door.post("/api/v1/resume").json()["pause"] is None
        assert door.post("/api/v1/pause").json()["pause"]["remaining_s"] is None
        assert door.post("/api/v1/pause", json={"duration_s": -1}).status_code == 400
        assert door.post("/api/v1/pause", json={"duration_s": "long"}).status_code == 400


def test_a_pause_that_is_not_understood_does_not_begin() -> None:
    """A misspelt duration would be none: a pause without an end."""
    node = FakeNode()
    with TestClient(create_door(node), base_url="http://127.0.0.1", client=("127.0.0.1", 5000)) as door:
        misspelt = door.post("/api/v1/pause", json={"duration": 60})
        assert misspelt.status_code == 400
        assert "'duration'; known are duration_s, reason" in misspelt.json()["error"]["message"]
        assert door.post("/api/v1/pause", content=b'{"reason": "\xff"}').status_code == 400
    assert node.current.pause is None
