"""Real nodes on loopback in one event loop: QUIC between them, an engine worker process behind each."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from waiting import until

from gridnode.config import NodeConfig
from gridnode.control.answer_schema import Delta, Finished, GenerateRequest, Started
from gridnode.core.addresses import Address
from gridnode.core.models import ExecutorName, QuantFormat
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.core.spans import Span
from gridnode.node.node import Node

LOOPBACK = Address("127.0.0.1", 0)
# Loading torch in several workers at once takes its time on a busy machine.
START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Answer:
    """Everything that one answer brought."""

    started: Started
    text: str
    token_ids: list[int]
    finished: Finished


class Swarm:
    """Nodes that run while the context lasts; see `running_swarm`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        directory: Path,
        model: Path,
        quantization: QuantFormat,
        executor: ExecutorName,
    ) -> None:
        self.nodes: list[Node] = []
        self._group = group
        self._directory = directory
        self._model = model
        self._quantization = quantization
        self._executor: ExecutorName = executor
        self._tasks: dict[Node, asyncio.Task[None]] = {}
        self._num_started = 0

    async def start(
        self,
        span: Span | None,
        *,
        model: Path | None = None,
        cache_tokens: int = 2048,
        serves: bool = True,
        draft_model: str = "",
        adapters: tuple[str, ...] = (),
        session_ttl_s: float = 1800.0,
    ) -> Node:
        """Start one more node, joined to the first one."""
        config = NodeConfig(
            model=str(model or self._model) if serves else "",
            blocks=span,
            adapters=adapters,
            quantization=self._quantization,
            executor="torch" if adapters else self._executor,
            dtype="float32",
            cache_tokens=cache_tokens,
            draft_model=draft_model,
            session_ttl_s=session_ttl_s,
            threads=1,
            listen=LOOPBACK,
            join=(self.nodes[0].address,) if self.nodes else (),
            public_name=f"node {self._num_started}",
            state_dir=self._directory / f"node{self._num_started}",
        )
        node = Node(config)
        listening = asyncio.Event()
        self._num_started += 1
        self._tasks[node] = self._group.create_task(self._run(node, listening))
        await listening.wait()
        self.nodes.append(node)
        return node

    async def _run(self, node: Node, listening: asyncio.Event) -> None:
        await node.run(on_listening=listening.set)

    async def stop(self, node: Node) -> None:
        """Stop one node in order."""
        task = self._tasks[node]
        task.cancel()
        await asyncio.wait([task])

    async def wait_ready(self) -> None:
        """Wait until every node is ready and sees every other one."""

        def all_ready() -> bool:
            return all(
                sum(peer.state == "online" for peer in node.status().peers) == len(self.nodes)
                for node in self.nodes
            )

        await until(all_ready, timeout_s=START_TIMEOUT_S)

    def assert_nothing_leased(self) -> None:
        """Check that every lease is free and every session gone."""
        for node in self.nodes:
            status = node.status()
            assert status.open_sessions == 0
            assert node.free_cache_tokens == status.total_cache_tokens

    async def wait_nothing_leased(self) -> None:
        """Wait until every lease is free: closing travels to the hops."""
        await until(
            lambda: all(
                node.status().open_sessions == 0
                and node.free_cache_tokens == node.status().total_cache_tokens
                for node in self.nodes
            )
        )


@contextlib.asynccontextmanager
async def running_swarm(
    model: Path,
    spans: Sequence[Span],
    *,
    quantization: QuantFormat = QuantFormat.NONE,
    executor: ExecutorName = "onnx",
) -> AsyncIterator[Swarm]:
    """Run one node per span of `model`, ready to answer; stop them all at the end.

    Args:
        executor: Workers with torch, which gradients and adapters need, take ten times as long to start.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with asyncio.TaskGroup() as group:
            swarm = Swarm(group, Path(directory), model, quantization, executor)
            try:
                for span in spans:
                    await swarm.start(span)
                await swarm.wait_ready()
                yield swarm
            finally:
                for node in swarm.nodes:
                    await swarm.stop(node)


async def ask(
    node: Node,
    token_ids: Sequence[int],
    *,
    max_tokens: int = 16,
    sampling: SamplingParams = GREEDY,
    **fields: object,
) -> Answer:
    """Return the whole answer of `node` to a prompt of tokens, going on behind the model's own end."""
    request = GenerateRequest(
        token_ids=tuple(token_ids),
        max_tokens=max_tokens,
        sampling=sampling,
        ignore_eos=True,
        **fields,  # type: ignore[arg-type]
    )
    return await collect(node, request)


async def collect(node: Node, request: GenerateRequest) -> Answer:
    """Return the whole answer of `node` to `request`."""
    text, answered = "", []
    started: Started | None = None
    finished: Finished | None = None
    async with contextlib.aclosing(node.generate(request)) as events:
        async for event in events:
            if isinstance(event, Delta):
                text += event.text
                answered.extend(event.token_ids)
            elif isinstance(event, Started):
                started = event
            elif isinstance(event, Finished):
                finished = event
    assert started is not None
    assert finished is not None
    return Answer(started, text, answered, finished)
