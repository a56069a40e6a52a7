"""A model that is on this computer and that nobody serves begins to load when somebody asks for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import tiny_models
from fake_hub import REPOSITORY, running_hub, use_hub
from nodes import collect, running_swarm
from waiting import until

from gridnode.cli.pulling import pull_model
from gridnode.control.answer_schema import Delta, GenerateRequest, Started, Waiting
from gridnode.control.door_server import serve_door
from gridnode.control.status_schema import PauseRequest
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.errors import ModelLoading, ModelUnknown, NoCapacity
from gridnode.node import on_demand

pytestmark = pytest.mark.swarm

ASKED = GenerateRequest(model=REPOSITORY, token_ids=(1, 2, 3), max_tokens=4, ignore_eos=True)


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`lab/tiny` is on the disk of this computer."""
    model = tiny_models.make_model(tmp_path / "model")
    with running_hub(model) as hub:
        use_hub(hub, tmp_path, monkeypatch)
        # The engine worker is a process of its own.
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        pull_model(REPOSITORY, None)
        yield


def test_a_node_without_a_model_loads_the_one_that_is_asked_for(pulled: None, tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [], quantization=QuantFormat.NONE) as swarm:
            node = await swarm.start(None, serves=False)
            with pytest.raises(ModelUnknown):
                await collect(node, GenerateRequest(model="lab/other", token_ids=(1,)))
            with pytest.raises(ModelLoading, match="being loaded"):
                await collect(node, ASKED)
            # Who waits is told, and answered when it is there.
            events = []
            waiting = GenerateRequest(
                model="tiny", token_ids=(1, 2, 3), max_tokens=4, ignore_eos=True, max_wait_s=120.0
            )
            async with contextlib.aclosing(node.generate(waiting)) as answer:
                events = [event async for event in answer]
            assert isinstance(events[0], Waiting)
            assert "being loaded" in events[0].text
            assert [event.model for event in events if isinstance(event, Started)] == [REPOSITORY]
            assert sum(len(event.token_ids) for event in events if isinstance(event, Delta)) == 4

    asyncio.run(scenario())


def test_the_door_says_when_to_ask_again(pulled: None, tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [], quantization=QuantFormat.NONE) as swarm:
            node = await swarm.start(None, serves=False)
            question = {"model": REPOSITORY, "prompt": "a b", "max_tokens": 4}
            async with (
                serve_door(node, Address("127.0.0.1", 0)) as door,
                httpx.AsyncClient(base_url=f"http://{door}", trust_env=False, timeout=120.0) as http,
            ):
                refused = await http.post("/v1/completions", json={**question, "max_wait_s": 0})
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 1
                assert "being loaded" in refused.json()["error"]["message"]
                answered = await http.post("/v1/completions", json={**question, "max_wait_s": 100})
                assert answered.status_code == 200, answered.text
                assert answered.json()["model"] == REPOSITORY

    asyncio.run(scenario())


def test_a_node_with_another_model_says_what_to_do(pulled: None, tiny_llama_mha: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama_mha, [Span(0, 4)]) as swarm:
            with pytest.raises(NoCapacity, match="gridnode up --model lab/tiny"):
                await collect(swarm.nodes[0], ASKED)

    asyncio.run(scenario())


def test_a_model_that_cannot_be_served_leaves_the_node_running(
    pulled: None, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner said --blocks, which this model has not; whoever asks for it is told."""

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [], quantization=QuantFormat.NONE) as swarm:
            node = await swarm.start(Span(0, 40), serves=False)
            for max_wait_s in (120.0, 0.0):
                with pytest.raises(NoCapacity, match="blocks 0:40 asked for, lab/tiny has blocks 0:4"):
                    await collect(node, replace(ASKED, max_wait_s=max_wait_s))
            status = node.status()
            assert (status.state, status.engine.state, status.models) == ("online", "none", ())
            # Later it is tried again, and fails again.
            monkeypatch.setattr(on_demand, "RETRY_S", 0.0)
            with pytest.raises(ModelLoading):
                await collect(node, ASKED)
            await until(lambda: node.status().state == "online")
            with pytest.raises(NoCapacity, match="cannot be served here"):
                await collect(node, ASKED)

    asyncio.run(scenario())


def test_a_node_that_is_paused_says_so(pulled: None, tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [], quantization=QuantFormat.NONE) as swarm:
            node = await swarm.start(Span(0, 40), serves=False)
            node.pause(PauseRequest(reason="a game"))
            with pytest.raises(NoCapacity, match="this node is paused: a game"):
                await collect(node, ASKED)
            node.resume()
            with pytest.raises(ModelLoading):
                await collect(node, ASKED)

    asyncio.run(scenario())
