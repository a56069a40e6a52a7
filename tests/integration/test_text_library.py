"""Nodes that serve nothing answer all the same: peers give them tokenizer and chat template."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from nodes import ask, collect, running_swarm

from gridnode.control.answer_schema import ChatMessage, GenerateRequest
from gridnode.core.spans import Span
from gridnode.engine import template_process
from gridnode.errors import BadInput, NoCapacity, PeerLost, ProtocolError
from gridnode.node import text_library
from gridnode.node.uplink import Uplink
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import FindText, Refused, expect_message

pytestmark = pytest.mark.swarm


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No tokenizer was fetched before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gridnode"


def test_a_node_without_blocks_answers_like_one_that_has_them(tiny_llama: Path, empty_cache: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            bare = await swarm.start(None, serves=False)
            await swarm.wait_ready()
            request = GenerateRequest(prompt="w5 w6 w7", max_tokens=8, ignore_eos=True)
            expected = await collect(swarm.nodes[0], request)
            answer = await collect(bare, request)
            assert (answer.text, answer.token_ids) == (expected.text, expected.token_ids)
            [fetched] = (empty_cache / "text-of-peers").iterdir()
            assert {"tokenizer.json", "config.json"} <= {file.name for file in fetched.iterdir()}
            # The next start of that node needs nobody: the files are kept.
            again = await swarm.start(None, serves=False)
            await swarm.wait_ready()
            assert (await ask(again, [1, 2, 3])).token_ids

    asyncio.run(scenario())


def test_a_template_of_a_peer_that_never_ends_holds_nobody_up(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was fetched before, and is read from the disk."""
    monkeypatch.setattr(template_process, "RENDER_TIMEOUT_S", 1.0)
    hostile = Path(shutil.copytree(tiny_llama, tmp_path / "hostile"))
    loops = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    (hostile / "chat_template.jinja").write_text(loops)

    async def scenario() -> None:
        async with running_swarm(hostile, [Span(0, 4)]) as swarm:
            request = GenerateRequest(messages=(ChatMessage(role="user", content="hello"),), max_tokens=2)
            for _ in range(2):
                bare = await swarm.start(None, serves=False)
                await swarm.wait_ready()
                with pytest.raises(BadInput, match="which a peer sent, ran for 1 s and was stopped"):
                    await collect(bare, request)
                assert (await ask(bare, [1, 2, 3])).token_ids

    asyncio.run(scenario())


def test_a_peer_without_the_files_says_so(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            [server] = swarm.nodes
            bare = await swarm.start(None, serves=False)
            await swarm.wait_ready()
            connection = await bare.links.connect(server.peer_id, (server.address,))
            stream = await connection.open_stream()
            await stream.send(encode_message(FindText(manifest="0" * 64)))
            assert expect_message(await stream.receive(), Refused).code == "no_capacity"
            [model] = server.swarm.models()
            with pytest.raises(NoCapacity, match="nobody else serves it"):
                await text_library.TextLibrary(
                    server.peer_id,
                    server.links,
                    swarm=lambda: server.swarm,
                    uplink=Uplink(server.peer_id, None),
                ).codec(model)

    asyncio.run(scenario())


def test_files_that_cannot_be_read_are_not_kept_and_the_next_peer_is_asked(
    tiny_llama: Path, empty_cache: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("tokenizer.json", "config.json"):
        (bad / name).write_text("{}")

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            bare = await swarm.start(None, serves=False)
            await swarm.wait_ready()
            [model] = bare.swarm.models()
            first, second = (ann.peer_id for ann in bare.swarm.serving(model))
            servers = {node.peer_id: node for node in swarm.nodes}

            def library() -> text_library.TextLibrary:
                uplink = Uplink(bare.peer_id, None)
                return text_library.TextLibrary(
                    bare.peer_id, bare.links, swarm=lambda: bare.swarm, uplink=uplink
                )

            servers[first]._texts.own(model, bad)
            assert (await library().codec(model)).encode("w5 w6")
            [kept] = (empty_cache / "text-of-peers").iterdir()
            good = (tiny_llama / "tokenizer.json").read_bytes()
            assert (kept / "tokenizer.json").read_bytes() == good
            # What was kept and then damaged is fetched again.
            (kept / "tokenizer.json").write_text("{}")
            assert (await library().codec(model)).encode("w5 w6")
            assert (kept / "tokenizer.json").read_bytes() == good
            shutil.rmtree(kept)
            servers[second]._texts.own(model, bad)
            with pytest.raises(NoCapacity, match=r"cannot fetch it \(node .* cannot read the tokenizer"):
                await library().codec(model)
            assert not list((empty_cache / "text-of-peers").iterdir())

    asyncio.run(scenario())


def test_more_than_the_limit_is_not_taken(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            bare = await swarm.start(None, serves=False)
            await swarm.wait_ready()
            monkeypatch.setattr(text_library, "MAX_TEXT_BYTES", 100)
            with pytest.raises((NoCapacity, ProtocolError, PeerLost)):
                await collect(bare, GenerateRequest(prompt="w5", max_tokens=1))

    asyncio.run(scenario())
