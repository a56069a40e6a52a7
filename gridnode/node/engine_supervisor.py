"""Keeping one engine worker alive: spawned, watched, restarted with growing waits."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.engine.requests import (
    BackwardRequest,
    CloseLease,
    EngineConfig,
    LeaseClosed,
    LeaseOpened,
    Load,
    Loaded,
    OpenLease,
    Progress,
    StepAnswer,
    StepRequest,
)
from gridnode.errors import BadInput, EngineLost, GridError
from gridnode.net.cancellation import raise_if_cancelled
from gridnode.node.engine_link import EngineLink
from gridnode.wire.frames import MAX_HEADER_ITEMS
from gridnode.wire.messages import Output
from gridnode.wire.tensors import TensorHeader
from gridnode.wire.tuning import NOT_TUNED, Tuning

logger = logging.getLogger("gridnode.node.engine")

MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0
# A worker that served this long was healthy: the next crash starts again at the shortest wait.
HEALTHY_S = 60.0
# A worker ends at the end of its socket; one that hangs in a kernel is killed after this.
STOP_TIMEOUT_S = 3.0


class EngineState(StrEnum):
    """What the engine worker is doing."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    """It died; a new one follows after a wait."""

    FAILED = "failed"
    """It cannot load its span, and a restart would not help."""

    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What one step computed."""

    tensor: TensorHeader
    body: bytes
    compute_s: float


class EngineSupervisor:
    """One engine worker, whatever happens to it.

    Args:
        config: What the worker loads.
        on_change: Called after every change of `state`, of `progress` and of free cache tokens.
    """

    def __init__(self, config: EngineConfig, *, on_change: Callable[[], None]) -> None:
        self.config = config
        self.state = EngineState.STARTING
        self.detail = ""
        """What it is doing, or why it failed: for people."""

        self.progress: Progress | None = None
        self.loaded: Loaded | None = None
        """Facts of the loaded span; None unless `state` is READY."""

        self.free_cache_tokens = 0
        self.num_restarts = 0
        self.pid: int | None = None
        self._on_change = on_change
        self._link: EngineLink | None = None
        self._leases: dict[int, EngineLink] = {}
        """The worker that granted each lease: a lease dies with it."""

        self._numbers = itertools.count(1)

    @property
    def num_leases(self) -> int:
        """Leases that are open, one for each session."""
        return len(self._leases)

    async def run(self) -> None:
        """Keep a worker running until cancelled.

        Raises:
            BadInput: the worker says that it can never load its span.
        """
        backoff_s = MIN_BACKOFF_S
        clock = asyncio.get_running_loop().time
        try:
            while True:
                started_at = clock()
                try:
                    await self._run_worker()
                except BadInput as exc:
                    self._change(EngineState.FAILED, str(exc))
                    raise
                except GridError as exc:
                    if clock() - started_at > HEALTHY_S:
                        backoff_s = MIN_BACKOFF_S
                    self.num_restarts += 1
                    self._change(EngineState.RESTARTING, f"{exc}; restarting in {backoff_s:g} s")
                    logger.warning("%s; restarting in %g s", exc, backoff_s)
                raise_if_cancelled()
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
        finally:
            if self.state is not EngineState.FAILED:
                self._change(EngineState.STOPPED, "")

    async def open_lease(
        self,
        span: Span,
        *,
        batch: int,
        max_tokens: int,
        wait_s: float = 0.0,
        tuning: Tuning = NOT_TUNED,
        body: bytes | bytearray | memoryview = b"",
    ) -> int:
        """Reserve KV cache for a session and return the lease.

        Args:
            wait_s: How long to wait for others to end if it does not fit now.
            tuning: What to add to the blocks.
            body: Its tensors.

        Raises:
            BadInput: what is added does not fit the blocks, or is too much.
            NoCapacity: the executor cannot add anything.
            CacheFull: it does not fit, with numbers.
            EngineLost: the worker is not there.
        """
        link = self._ready_link()
        lease = next(self._numbers)
        request = OpenLease(
            number=0,
            lease=lease,
            span=span,
            batch=batch,
            max_tokens=max_tokens,
            wait_s=wait_s,
            tuning=tuning,
        )
        try:
            answer, _ = await link.request(request, LeaseOpened, memoryview(body))
        except asyncio.CancelledError:
            # The worker may have granted it all the same; nobody else would ever close it.
            self._leases[lease] = link
            await self.close_lease(lease)
            raise
        self._leases[lease] = link
        self._set_free(answer.free_cache_tokens)
        return lease

    async def close_lease(self, lease: int) -> None:
        """Free a lease. Unknown ones, and those of a worker that died, are free already.

        Shielded from cancelling: a lease must not outlive its session.
        """
        link = self._leases.pop(lease, None)
        if link is None or link is not self._link:
            return
        await asyncio.shield(self._close(link, lease))

    async def _close(self, link: EngineLink, lease: int) -> None:
        with contextlib.suppress(EngineLost):
            answer, _ = await link.request(CloseLease(number=0, lease=lease), LeaseClosed)
            self._set_free(answer.free_cache_tokens)

    async def step(
        self,
        lease: int,
        body: bytes | bytearray | memoryview,
        tensor: TensorHeader,
        *,
        position: int,
        parents: tuple[int, ...] = (),
        output: Output,
        sampling: SamplingParams | None = None,
        history: tuple[int, ...] = (),
    ) -> StepOutput:
        """Run new tokens through the blocks of a lease.

        Cancelling ends the step early; how many of its tokens are in the cache then is not known.

        Raises:
            ContextFull: the tokens do not fit into the lease.
            BadInput, ProtocolError: the step is nonsense.
            EngineLost: the worker died, now or since the lease was opened.
        """
        link = self._leases.get(lease)
        if link is None or link is not self._link:
            raise EngineLost("the engine worker was restarted since this session began; open it again")
        # What the worker's frame decoder would refuse must not get there: all sessions share that pipe.
        tensor.check_body(body)
        if len(history) > MAX_HEADER_ITEMS:
            raise BadInput(f"history of {len(history)} tokens, at most {MAX_HEADER_ITEMS} are used")
        request = StepRequest(
            number=0,
            lease=lease,
            parents=parents,
            position=position,
            tensor=tensor,
            output=output,
            sampling=sampling,
            history=history,
        )
        answer, answer_body = await link.request(request, StepAnswer, memoryview(body))
        return StepOutput(tensor=answer.tensor, body=answer_body, compute_s=answer.compute_s)

    async def backward(
        self,
        span: Span,
        each: TensorHeader,
        body: bytes | bytearray | memoryview,
        *,
        tuning: Tuning = NOT_TUNED,
    ) -> StepOutput:
        """Return the gradient of some blocks; see `BackwardRequest`.

        Cancelling gives up the place in the queue of the worker.

        Raises:
            NoCapacity: the executor has no gradients, or too many wait for theirs.
            BadInput: the tensors do not fit the blocks.
            EngineLost: the worker is not there, or died.
        """
        request = BackwardRequest(number=0, span=span, each=each, tuning=tuning)
        answer, answer_body = await self._ready_link().request(request, StepAnswer, memoryview(body))
        return StepOutput(tensor=answer.tensor, body=answer_body, compute_s=answer.compute_s)

    def _ready_link(self) -> EngineLink:
        if self._link is None or self.state is not EngineState.READY:
            raise EngineLost(f"the engine worker is {self.state}{': ' + self.detail if self.detail else ''}")
        return self._link

    async def _run_worker(self) -> None:
        """Run one worker from birth to death.

        Raises:
            BadInput: it cannot load the span.
            EngineLost, EngineFailed: it died.
        """
        self._change(EngineState.STARTING, "")
        ours, theirs = socket.socketpair()
        with theirs:
            link = await EngineLink.open(ours, on_progress=self._hear_progress)
            try:
                process = await _spawn(theirs)
            except BaseException:
                await link.aclose()
                raise
        self.pid = process.pid
        self._link = link
        try:
            async with asyncio.TaskGroup() as group:
                loading = group.create_task(self._load(link), name="load")
                await link.run()
                loading.cancel()
        except* GridError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._link = self.pid = self.loaded = None
            self.free_cache_tokens = 0
            self._leases.clear()
            await link.aclose()
            await self._reap(process)
            lost = EngineLost(f"the engine worker (pid {process.pid}) {_describe_end(process.returncode)}")
            await link.lose(lost)
        raise lost

    async def _load(self, link: EngineLink) -> None:
        self._change(EngineState.LOADING, f"loading blocks {self.config.span}")
        loaded, _ = await link.request(Load(number=0, config=self.config), Loaded)
        self.loaded = loaded
        self.free_cache_tokens = loaded.total_cache_tokens
        self._change(EngineState.READY, "")

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        """Wait for the end of a worker whose socket is closed; kill it if it does not notice."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await asyncio.shield(process.wait())
            raise

    def _hear_progress(self, progress: Progress) -> None:
        self.progress = progress
        self._on_change()

    def _set_free(self, free_cache_tokens: int) -> None:
        self.free_cache_tokens = free_cache_tokens
        self._on_change()

    def _change(self, state: EngineState, detail: str) -> None:
        self.state, self.detail = state, detail
        if state is not EngineState.LOADING:
            self.progress = None
        self._on_change()


async def _spawn(sock: socket.socket) -> asyncio.subprocess.Process:
    """Start a worker on its end of the pair.

    Raises:
        EngineLost: the system has no room for another process now.
    """
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gridnode.engine.worker",
            str(sock.fileno()),
            pass_fds=[sock.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
    except OSError as exc:
        raise EngineLost(f"the engine worker cannot be started: {exc.strerror or exc}") from exc


def _describe_end(returncode: int | None) -> str:
    if returncode is None:
        return "closed its socket"
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (out of memory? try fewer --blocks or fewer bits, --quantize)" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {returncode}"
