"""A swarm behind a real door, in a thread of its own: clients that block can use it.

Tests of real clients share one, `demo_swarm`. They live in `tests/clients`, so that one process of xdist
runs them all: each swarm loads the model three times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from nodes import Swarm, running_swarm

from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

T = TypeVar("T")

CLIENTS = "tests/clients/"
ANY_PORT = Address("127.0.0.1", 0)
# Three workers load a model on a busy machine.
START_TIMEOUT_S = 180.0
# A killed worker loads its blocks again meanwhile.
CALL_TIMEOUT_S = 150.0


@dataclass
class ServedSwarm:
    """The nodes of a swarm; the door is that of the first one."""

    swarm: Swarm
    url: str
    """Of the door, without a slash at its end."""

    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns in the swarm's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_TIMEOUT_S)

    def wait_nothing_leased(self) -> None:
        """Wait until every lease is free."""
        self.run(self.swarm.wait_nothing_leased())

    def wait_ready(self) -> None:
        """Wait until every node is ready."""
        self.run(self.swarm.wait_ready())

    def kill_worker(self, short: str) -> None:
        """Kill the engine worker of the node with a short id in the middle of whatever it does."""

        async def kill() -> None:
            self.kill_worker_here(short)

        self.run(kill())

    def kill_worker_here(self, short: str) -> None:
        """The same in the swarm's event loop."""
        (found,) = (node.status() for node in self.swarm.nodes if node.status().short == short)
        assert found.engine.pid is not None
        os.kill(found.engine.pid, signal.SIGKILL)


@contextlib.contextmanager
def served_swarm(
    model: Path, spans: Sequence[Span], *, quantization: QuantFormat = QuantFormat.INT8
) -> Iterator[ServedSwarm]:
    """Run one node per span of `model` and the door of the first one; stop them at the end."""
    ready = threading.Event()
    found: list[ServedSwarm | BaseException] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        async with (
            running_swarm(model, spans, quantization=quantization, executor="auto") as swarm,
            serve_door(swarm.nodes[0], ANY_PORT) as address,
        ):
            found.append(ServedSwarm(swarm=swarm, url=f"http://{address}", loop=loop))
            ready.set()
            await stopping.wait()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as exc:  # noqa: BLE001 - raised again in the test's thread
            found.append(exc)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="served-swarm")
    thread.start()
    try:
        assert ready.wait(START_TIMEOUT_S)
        if isinstance(found[0], BaseException):
            raise found[0]
        yield found[0]
    finally:
        stop[0]()
        thread.join()
    if isinstance(found[-1], BaseException):
        raise found[-1]


@pytest.fixture(scope="session")
def demo_swarm(demo_model_path: Path) -> Iterator[ServedSwarm]:
    """Three nodes with the demo model; the second half of its blocks has a replica.

    Whoever kills a worker waits until it is back.
    """
    with served_swarm(demo_model_path, [Span(0, 15), Span(15, 30), Span(15, 30)]) as served:
        yield served


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Keep the tests of real clients together; spread the others one by one, as xdist does."""
    from xdist.scheduler import LoadScopeScheduling

    class OneSwarm(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return CLIENTS if nodeid.startswith(CLIENTS) else nodeid

    return OneSwarm(config, log) if config.getoption("dist") == "load" else None
