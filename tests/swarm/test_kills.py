"""Nodes are killed with SIGKILL at random points, hundreds of times; whoever asks gets what they always get.

Every node is a process of its own, and every kill a real one: in prompts and decode steps, in passes
forward and backward, while others restart, sometimes all holders of some blocks at once. Killed nodes come
back with their identity and port. Seeds decide whom and when; what runs then is a matter of the computer's
mood.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from nursery import Slot, nursery
from waiting import until

from gridnode.config import NodeConfig
from gridnode.control.answer_schema import Delta, Finished, GenerateRequest, Rerouted, Started
from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.ids import show_peer
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.node.block_call import BlockCall
from gridnode.node.gradients import backward
from gridnode.node.hidden_session import HiddenSession
from gridnode.node.node import Node

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(900)]

# Over both tests: at least 200.
KILLS_EACH = 105
SPANS = [Span(0, 2), Span(0, 2), Span(0, 2), Span(2, 4), Span(2, 4), Span(2, 4)]
HIDDEN_SIZE = 64
START_TIMEOUT_S = 240.0
MAX_LULL_S = 4.0


@dataclass
class Storm:
    """A swarm of processes of which one is killed now and then, and what went on meanwhile."""

    node: Node
    slots: list[Slot]
    rng: random.Random
    running: dict[object, set[str]] = field(default_factory=dict)
    """The nodes in the route of every answer that runs."""

    progress: int = 0
    """Tokens and pieces of passes that arrived: the time in which kills are dated."""

    kills: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    is_over: bool = False

    def online(self) -> dict[str, Slot]:
        """Return the slots whose nodes serve now, by the ids of the nodes."""
        by_name = {slot.config.public_name: slot for slot in self.slots}
        return {
            show_peer(peer_id): by_name[peer.announcement.public_name]
            for peer_id, peer in self.node.swarm.peers.items()
            if peer.announcement.state is PeerState.ONLINE and peer.announcement.public_name in by_name
        }

    async def rage(self, num_kills: int) -> None:
        """Kill nodes, most of them in the middle of an answer, and let each come back at once."""
        while self.kills < num_kills:
            await self._lull(self.rng.randrange(80))
            online = self.online()
            in_use = sorted(set[str]().union(*self.running.values()) & online.keys())
            victims = in_use if in_use and self.rng.random() < 0.8 else sorted(online)
            if not victims:
                continue
            # Now and then all holders of some blocks at once: answers wait until one is back.
            slot = online[self.rng.choice(victims)]
            fallen = [slot]
            if self.rng.random() < 0.05:
                fallen = [other for other in online.values() if other.config.blocks == slot.config.blocks]
            await asyncio.to_thread(_restart, fallen)
            self.kills += len(fallen)
        self.is_over = True

    async def _lull(self, num_steps: int) -> None:
        """Wait until so much was answered; where nothing is, because too many are dead, not for long."""
        aim = self.progress + num_steps
        with contextlib.suppress(TimeoutError):
            await until(lambda: self.progress >= aim, timeout_s=MAX_LULL_S)


def _restart(slots: Sequence[Slot]) -> None:
    for slot in slots:
        slot.kill()
    for slot in slots:
        slot.start()


@contextlib.asynccontextmanager
async def storm(directory: Path, model: Path, quantization: QuantFormat, seed: int) -> AsyncIterator[Storm]:
    """Run six nodes as processes, and one here that serves nothing and asks them."""
    node = Node(NodeConfig(listen=Address("127.0.0.1", 0), state_dir=directory / "client"))
    listening = asyncio.Event()
    running = asyncio.create_task(node.run(on_listening=listening.set))
    await listening.wait()
    with nursery(directory, model, SPANS, join=node.address, quantization=quantization) as slots:
        found = Storm(node, slots, random.Random(seed))
        try:
            await until(lambda: len(found.online()) == len(slots), timeout_s=START_TIMEOUT_S)
            yield found
        finally:
            running.cancel()
            await asyncio.wait([running])


async def answer(storm: Storm, request: GenerateRequest) -> list[int]:
    """Return the tokens of an answer, and note its route while it lasts."""
    me, token_ids = object(), list[int]()
    async with contextlib.aclosing(storm.node.generate(request)) as events:
        try:
            async for event in events:
                if isinstance(event, Started | Rerouted):
                    storm.running[me] = {hop.peer_id for hop in event.route}
                elif isinstance(event, Delta):
                    token_ids.extend(event.token_ids)
                    storm.progress += 1
                elif isinstance(event, Finished):
                    storm.seen["reroutes"] += event.reroutes
        finally:
            storm.running.pop(me, None)
    return token_ids


def requests(rng: random.Random) -> list[GenerateRequest]:
    """Return questions short and long, greedy and sampled; the longest prompt has three chunks."""
    return [
        GenerateRequest(
            token_ids=tuple(rng.randrange(1, 250) for _ in range(num_prompt)),
            max_tokens=num_new,
            sampling=SamplingParams(temperature=temperature, seed=rng.randrange(1000)),
            ignore_eos=True,
            max_wait_s=60.0,
        )
        for num_prompt, num_new in ((3, 120), (700, 40), (300, 80))
        for temperature in (0.0, 1.0)
    ]


async def disturb(storm: Storm, works: Sequence[Callable[[], Awaitable[object]]], num_at_once: int) -> None:
    """Do `works` again and again while nodes die; they raise if a result is wrong."""

    async def keep_working(first: int) -> None:
        for i in itertools.count(first):
            await works[i % len(works)]()
            if storm.is_over:
                return

    async with asyncio.TaskGroup() as group:
        for first in range(num_at_once):
            group.create_task(keep_working(first))
        await storm.rage(KILLS_EACH)


def report(storm: Storm, capsys: pytest.CaptureFixture[str]) -> None:
    """Print what happened, also where the output of tests is kept back."""
    with capsys.disabled():
        seen = ", ".join(f"{number} {name}" for name, number in sorted(storm.seen.items()))
        print(f"\n{storm.kills} nodes killed; {seen}")


def test_b1_b3_answers_are_the_same_however_many_nodes_are_killed(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B1 after some tokens, B3 in prompts, B9 the same identity comes back. int8: what people run."""

    async def scenario() -> Storm:
        async with storm(tmp_path, tiny_llama, QuantFormat.INT8, seed=1) as found:
            wanted = [(request, await answer(found, request)) for request in requests(random.Random(2))]

            def work(request: GenerateRequest, expected: list[int]) -> Callable[[], Awaitable[object]]:
                async def again() -> None:
                    assert await answer(found, request) == expected
                    found.seen["answers"] += 1

                return again

            await disturb(found, [work(*pair) for pair in wanted], num_at_once=3)
            return found

    found = asyncio.run(scenario())
    report(found, capsys)
    assert found.kills >= KILLS_EACH
    assert found.seen["reroutes"] > 0


def test_forward_and_backward_passes_survive_the_nodes_that_compute_them(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """float32: what gradients need. Answers run beside them.

    Hidden states are tens, and run in whatever company: floating-point noise is some 1e-5 of that. Their
    gradients are thousands, and magnify it: another 1e-7 between the hops, the last bit, is 1e-5 of them.
    """
    rng = np.random.default_rng(3)
    hidden, after = (rng.normal(size=(1, 300, HIDDEN_SIZE)).astype(np.float32) for _ in range(2))

    async def forward(storm: Storm, call: BlockCall) -> np.ndarray:
        session = HiddenSession(storm.node.models, call, max_tokens=hidden.shape[1])
        async with contextlib.aclosing(session):
            # In the middle of a session, too: what was sent before is sent again.
            pieces = []
            for start in range(0, 300, 100):
                pieces.append(await session.step(hidden[:, start : start + 100]))
                storm.progress += 10
            return np.concatenate(pieces, axis=1)

    async def scenario() -> Storm:
        async with storm(tmp_path, tiny_llama, QuantFormat.NONE, seed=4) as found:
            model, num_blocks = await found.node.models.resolve("")
            call = BlockCall(model=model, num_blocks=num_blocks, part=Span(0, num_blocks))
            request = requests(random.Random(5))[0]
            tokens = await answer(found, request)
            states = await forward(found, call)
            gradient, _ = await backward(found.node.models, call, hidden, after)
            noise = 1e-3 * float(np.abs(gradient).max())

            async def answer_again() -> None:
                assert await answer(found, request) == tokens
                found.seen["answers"] += 1

            async def forward_again() -> None:
                np.testing.assert_allclose(await forward(found, call), states, rtol=1e-4, atol=1e-3)
                found.seen["passes forward"] += 1

            async def backward_again() -> None:
                again, _ = await backward(found.node.models, call, hidden, after)
                np.testing.assert_allclose(again, gradient, rtol=0, atol=noise)
                found.seen["passes backward"] += 1
                found.progress += 30

            await disturb(found, [answer_again, forward_again, backward_again], num_at_once=3)
            return found

    found = asyncio.run(scenario())
    report(found, capsys)
    assert found.kills >= KILLS_EACH
    assert found.seen["passes forward"] > 0
    assert found.seen["passes backward"] > 0
