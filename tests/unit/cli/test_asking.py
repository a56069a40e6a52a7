"""`gridnode run` and `gridnode status` as processes, against a real door with a fake node behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace

import msgspec
import pytest
from fake_node import SERVING, STATUS, FakeNode
from waiting import until

from gridnode.control.answer_schema import ChatMessage
from gridnode.control.door_server import serve_door
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import Address
from gridnode.core.route_wishes import RouteWishes
from gridnode.errors import CacheFull, ErrorCode, ModelLoading, NoRoute, PeerLost, PeerRefused


async def start(node_api: Address, *arguments: str | bytes) -> asyncio.subprocess.Process:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GRIDNODE_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gridnode", *arguments, "--api", str(node_api)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=variables | {"COLUMNS": "120"},
    )


def gridnode(node: FakeNode, *arguments: str | bytes, text: bytes = b"") -> tuple[int | None, str, str]:
    """Run a command against the door of `node`; return its exit code, stdout and stderr."""

    async def run() -> tuple[int | None, str, str]:
        async with serve_door(node, Address("127.0.0.1", 0)) as api:
            process = await start(api, *arguments)
            out, err = await asyncio.wait_for(process.communicate(text), timeout=60)
        return process.returncode, out.decode(), err.decode()

    return asyncio.run(run())


def test_the_answer_and_nothing_else_goes_to_stdout() -> None:
    node = FakeNode()
    assert gridnode(node, "run", "tiny", "The capital?", "--max-tokens", "7", "--seed", "3") == (
        0,
        "Paris.\n",
        "",
    )
    request = node.requests[0]
    assert (request.model, request.max_tokens, request.sampling.seed) == ("tiny", 7, 3)
    assert request.messages == (ChatMessage(role="user", content="The capital?"),)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_prompt_that_is_not_utf8_is_asked_with_marks(monkeypatch: pytest.MonkeyPatch, locale: str) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    node = FakeNode()
    assert gridnode(node, "run", "-", text="What is käse? ".encode() + b"K\xe4se") == (0, "Paris.\n", "")
    asked = (b"\xe4h?", b"--system", b"Gr\xfc\xdf", b"--stop", b"\xff")
    assert gridnode(node, "run", *asked) == (0, "Paris.\n", "")
    piped, given = node.requests
    assert [turn.content for turn in piped.messages] == ["What is käse? K\ufffdse"]
    assert [turn.content for turn in given.messages] == ["Gr\ufffd\ufffd", "\ufffdh?"]
    assert given.stop == ("\ufffd",)


def test_wishes_about_the_route_reach_the_node() -> None:
    node = FakeNode()
    mine = "a" * 16
    wishes = (
        "--route",
        "Ada",
        "--route",
        "Bo",
        "--allow",
        "Ada",
        "--block",
        "Cem",
        "--private",
        "--home",
        mine,
    )
    assert gridnode(node, "run", "A question?", *wishes)[0] == 0
    assert node.requests[0].routing == RouteWishes(
        route=("Ada", "Bo"), allow=("Ada",), block=("Cem",), private=True, home=(mine,)
    )
    code, _, err = gridnode(node, "run", "A question?", "--home", mine)
    assert code == 2
    assert "set private too" in err


def test_a_system_message_stands_first() -> None:
    node = FakeNode()
    gridnode(node, "run", "Hello", "--system", "Be kind", "--stop", "END", "--stop", "\n")
    assert [message.role for message in node.requests[0].messages] == ["system", "user"]
    assert node.requests[0].stop == ("END", "\n")


def test_raw_text_comes_from_a_pipe() -> None:
    node = FakeNode()
    gridnode(node, "run", "--raw", "-", text=b"Once upon a time\n")
    assert (node.requests[0].prompt, node.requests[0].messages) == ("Once upon a time\n", ())


def test_sampling_without_a_seed_is_different_every_time() -> None:
    node = FakeNode()
    for _ in range(2):
        gridnode(node, "run", "Hello", "--temperature", "0.8")
    assert node.requests[0].sampling.seed != node.requests[1].sampling.seed


def test_stats_show_the_route_on_stderr() -> None:
    code, out, err = gridnode(FakeNode(), "run", "Hello", "--stats")
    assert (code, out) == (0, "Paris.\n")
    assert "12.5 ms" in err
    assert "40.0 tokens/s" in err


def test_json_is_one_event_a_line() -> None:
    _, out, _ = gridnode(FakeNode(), "run", "Hello", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["started", "delta", "delta", "delta", "finished"]
    assert {"model", "route", "prompt_tokens"} <= events[0].keys()
    assert {"reason", "ttft_s", "decode_tokens_per_s", "completion_tokens"} <= events[-1].keys()


def test_errors_have_their_exit_code_and_keep_what_was_said() -> None:
    node = FakeNode(error=PeerLost("node bbbbbbbb is gone"), fail_after=2)
    code, out, err = gridnode(node, "run", "Hello")
    assert (code, out, err) == (1, "Paris", "gridnode: node bbbbbbbb is gone\n")
    code, out, _ = gridnode(node, "run", "Hello", "--json")
    assert json.loads(out.splitlines()[-1]) == {
        "code": "peer_lost",
        "text": "node bbbbbbbb is gone",
        "event": "failed",
    }
    assert gridnode(FakeNode(error=CacheFull(900, 100)), "run", "Hello")[0] == 5
    full = PeerRefused("node bbbbbbbb has no room", reason=ErrorCode.CACHE_FULL)
    assert gridnode(FakeNode(error=full), "run", "Hello")[0] == 5
    assert gridnode(FakeNode(error=ModelLoading("soon")), "run", "Hello")[0] == 4


def test_what_other_nodes_say_of_an_error_steers_no_terminal() -> None:
    node = FakeNode(error=PeerLost("node bbbbbbbb: \x1b]0;evil\x07"))
    assert gridnode(node, "run", "Hello")[2] == "gridnode: node bbbbbbbb: �]0;evil�\n"


def test_no_route_while_the_node_loads_is_not_ready() -> None:
    node = FakeNode(error=NoRoute("tiny", 30, ((0, 10),)))
    assert gridnode(node, "run", "Hello")[0] == 5
    node.with_engine("loading", loaded_blocks=3, wanted_blocks=10)
    code, _, err = gridnode(node, "run", "Hello")
    assert code == 4
    assert "3 of 10" in err


def test_ctrl_c_cancels_the_answer() -> None:
    node = FakeNode(hang_after=1)

    async def run() -> tuple[int | None, str]:
        async with serve_door(node, Address("127.0.0.1", 0)) as api:
            process = await start(api, "run", "Hello")
            assert process.stdout is not None
            assert await process.stdout.readexactly(3) == b"Par"
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(process.communicate(), timeout=20)
            await until(lambda: node.num_running == 0)
        return process.returncode, err.decode()

    assert asyncio.run(run()) == (130, "")


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    async def run() -> tuple[int | None, str]:
        # More than fits into the pipe and its reader: the command is still writing when that leaves.
        node = FakeNode(words=("word " * 200,) * 2000)
        async with serve_door(node, Address("127.0.0.1", 0)) as api:
            process = await start(api, "run", "Hello")
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdout.readexactly(4)
            process.stdout._transport.close()  # type: ignore[attr-defined]  # what `| head` does
            err = await asyncio.wait_for(process.stderr.read(), timeout=20)
            await until(lambda: node.num_running == 0)
            return await process.wait(), err.decode()

    assert asyncio.run(run()) == (141, "")


def test_status_shows_nodes_and_models() -> None:
    code, out, err = gridnode(FakeNode(), "status")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["NODE", "STATE", "BLOCKS", "CACHE", "SPEED", "LINK", "NAME"]
    assert lines[1].split() == ["*aaaaaaaa", "online", "0:30", "8000/8192", "free", "88", "t/s", "-", "Ada"]
    assert "tiny" in out


def test_status_in_json_is_the_record_of_the_door() -> None:
    _, out, _ = gridnode(FakeNode(), "status", "--json")
    assert msgspec.json.decode(out, type=NodeStatus) == STATUS


def test_status_names_the_gap_and_what_fills_it() -> None:
    model = replace(STATUS.models[0], gaps=((10, 30),), route="")
    peer = replace(STATUS.peers[0], serving=replace(SERVING, end=10))
    _, out, _ = gridnode(FakeNode(current=replace(STATUS, peers=(peer,), models=(model,))), "status")
    assert "blocks 10:30 not served" in out
    assert "gridnode up --model tiny --blocks 10:30 --join 127.0.0.1:7338" in out


@pytest.mark.parametrize("name", ["\x1b[31mred", "[bold]loud[/]", "two\nlines", "x" * 64])
def test_names_of_strangers_are_text(name: str) -> None:
    peer = replace(STATUS.peers[0], public_name=name)
    _, out, _ = gridnode(FakeNode(current=replace(STATUS, peers=(peer,))), "status")
    shown = out.splitlines()[1].split("-", 1)[1].strip()
    assert "\x1b" not in out
    assert len(shown) <= 32
    assert shown.startswith(name[1:4].strip() if name.startswith("\x1b") else name[:3]) or "�" in shown
