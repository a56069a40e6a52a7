"""`gridnode.connect`: the swarm for asynchronous programs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from nodes import running_swarm

import gridnode
from gridnode.control.answer_schema import Finished
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.errors import BadInput, NotRunning


@pytest.mark.swarm
@pytest.mark.smollm
def test_questions_conversations_options_and_vectors(demo_model_path: Path) -> None:
    async def scenario() -> None:
        spans = [Span(0, 15), Span(15, 30)]
        async with (
            running_swarm(demo_model_path, spans, quantization=QuantFormat.INT8) as nodes,
            serve_door(nodes.nodes[0], Address("127.0.0.1", 0)) as door,
            gridnode.connect(str(door)) as swarm,
        ):
            question = "What is the capital of France?"
            answer = "".join([piece async for piece in swarm.generate(question)])
            assert "Paris" in answer
            messages = [{"role": "user", "content": question}]
            events = [event async for event in swarm.events(messages, max_tokens=4, temperature=0.7, seed=1)]
            assert isinstance(events[-1], Finished)
            assert events[-1].reason == "length"
            assert len((await swarm.embed("one", "two")).vectors) == 2
            assert len((await swarm.status()).peers) == 2
            with pytest.raises(BadInput, match="no option 'tempreature'"):
                await anext(swarm.generate("hi", tempreature=1.0))
            with pytest.raises(BadInput, match="cannot be asked"):
                await anext(swarm.generate("hi", temperature=-1.0))
            await nodes.wait_nothing_leased()

    asyncio.run(scenario())


def test_without_a_node_it_says_what_to_do() -> None:
    async def scenario() -> None:
        async with gridnode.connect("127.0.0.1:9") as swarm:
            with pytest.raises(NotRunning, match="gridnode up"):
                await anext(swarm.generate("hi"))
        with pytest.raises(BadInput):
            async with gridnode.connect("nowhere at all"):
                pass

    asyncio.run(scenario())


def test_importing_gridnode_loads_nothing_heavy_and_names_are_there() -> None:
    """A26."""
    program = (
        "import sys, gridnode;"
        "heavy = {'torch', 'transformers', 'numpy', 'httpx', 'msgspec'} & set(sys.modules);"
        "assert not heavy, heavy; gridnode.connect; assert 'torch' not in sys.modules;"
        "assert 'AutoDistributedModelForCausalLM' in dir(gridnode)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gridnode.nothing  # noqa: B018 - the attribute is the test


def test_importing_gridnode_takes_less_than_a_fifth_of_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    program = "import time; t = time.perf_counter(); import gridnode; print(time.perf_counter() - t)"

    def measured_s() -> float:
        done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)
        return float(done.stdout)

    best_s = min(measured_s() for _ in range(3))
    with capsys.disabled():
        print(f"import gridnode: {best_s * 1000:.1f} ms, the best of three")
    assert best_s < 0.2
