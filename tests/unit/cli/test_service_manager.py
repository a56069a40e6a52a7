from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_node import STATUS, FakeNode

from gridnode.cli import service_manager
from gridnode.cli.service_manager import ServiceManager, is_serving, summary, watchdog_interval_s
from gridnode.control.status_schema import EngineStatus

LOADING = replace(
    STATUS,
    state="joining",
    engine=EngineStatus(state="loading", loaded_blocks=3, wanted_blocks=30),
    peers=(replace(STATUS.peers[0], state="joining"),),
)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr(service_manager, "LOOK_INTERVAL_S", 0.01)
        yield listener


def test_ready_is_told_only_when_blocks_are_served_and_once(manager: socket.socket) -> None:
    node = FakeNode(current=LOADING)

    async def scenario() -> list[str]:
        telling = asyncio.create_task(ServiceManager(node.status).run())
        heard = []
        while len(heard) < 6:
            heard.append((await asyncio.to_thread(manager.recv, 4096)).decode())
            if len(heard) == 3:
                node.current = STATUS
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
        return heard

    heard = asyncio.run(scenario())
    assert all("WATCHDOG=1" in message for message in heard)
    assert "STATUS=loading blocks, 3 of 30 done; 0 other nodes in swarm home" in heard[0]
    assert not any("READY=1" in message for message in heard[:3])
    assert sum("READY=1" in message for message in heard) == 1
    assert sum("STATUS=" in message for message in heard) == 2


def test_the_end_is_told(manager: socket.socket) -> None:
    ServiceManager(FakeNode().status).stopping()
    assert manager.recv(4096).startswith(b"STOPPING=1")


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    manager = ServiceManager(FakeNode().status)
    asyncio.run(manager.run())
    manager.stopping()


def test_the_sign_of_life_comes_three_times_as_often_as_asked() -> None:
    assert watchdog_interval_s({"WATCHDOG_USEC": "900000"}) == pytest.approx(0.3)
    assert watchdog_interval_s({"WATCHDOG_USEC": "60000000"}) == 1.0
    assert watchdog_interval_s({}) == 1.0


def test_a_node_without_a_model_has_nothing_to_wait_for() -> None:
    assert is_serving(replace(STATUS, engine=EngineStatus(state="none"), models=()))
    assert not is_serving(LOADING)
    assert not is_serving(replace(LOADING, engine=EngineStatus(state="none")))


def test_the_line_says_what_is_served() -> None:
    assert summary(STATUS) == "serving blocks 0:30 of 30 of tiny, 0 sessions; 0 other nodes in swarm home"
