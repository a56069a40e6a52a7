"""What the HTTP door costs per token, and whether it loses any: `python benchmarks/api.py`.

A daemon serves a small random model, and a second one without blocks is asked over HTTP:

1. Time per token of a bare session from this process through the same hop, and of answers read from the
   door, in turns. The difference is what the door adds: text, events, HTTP and reading them.
2. From the moment that a token is there to the moment that a reader has it, with a door over a node that
   stamps its tokens, one every few milliseconds.
3. Many answers at once for a minute. Tokens received are compared with what each answer says it had, and
   with what the hop says it computed; and the answers, which are all to the same question, with each other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gridnode.config import NodeConfig
from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, GenerateRequest, HopStatus, Started
from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import Address, parse_address
from gridnode.core.routing import Hop, Route
from gridnode.core.sampling import GREEDY
from gridnode.node.node import Node
from gridnode.node.remote_session import RemoteSession, SessionPlan
from gridnode.wire.messages import StepKind
from gridnode.wire.tensors import TensorHeader

AIM_MS = 1.0
BLOCKS = 4
BLOCK_ROUNDS = 6
WARM_UP_TOKENS = 20
PROMPT = "Once upon a time"
# ASCII, and `Ġ` for the blank: every token is a whole character, so that every one is in an event of its own.
LETTERS = [*map(chr, range(33, 127)), "Ġ"]
# Slower than the door, so that no token waits for the one before.
STAMP_INTERVAL_S = 0.004
SPAWN = multiprocessing.get_context("spawn")
ANYWHERE = Address("127.0.0.1", 0)

Tokens = AsyncGenerator[str, None]
Ask = Callable[[Address, int], Tokens]
"""From an address and a number of tokens to the pieces of text of one answer."""


def make_model(directory: Path) -> None:
    """Write a random Llama that never ends by itself; its compute is not the question.

    Call it in a process of its own: a process full of torch collects garbage for longer, and would make the
    bare session look slower than it is in a node.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(LETTERS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(LETTERS)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


@contextlib.contextmanager
def daemon(state_dir: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a node; yield what it told when it was ready to listen."""
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--no-mdns", "--swarm", "bench"]
    command += ["--log-level", "error", "--state-dir", str(state_dir), "--api", "127.0.0.1:0"]
    command += ["--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


async def ask_run(door: Address, num_tokens: int) -> Tokens:
    """Ask with gridnode's own client, `POST /api/v1/run`."""
    request = GenerateRequest(prompt=PROMPT, max_tokens=num_tokens)
    async with ControlClient(door) as client:
        async for event in client.run(request):
            if isinstance(event, Delta):
                yield event.text
            elif isinstance(event, Finished) and event.completion_tokens != num_tokens:
                raise RuntimeError(f"asked for {num_tokens} tokens, got {event.completion_tokens}")


async def ask_chat(door: Address, num_tokens: int) -> Tokens:
    """Ask as clients of OpenAI do, `POST /v1/chat/completions`."""
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": num_tokens,
        "stream": True,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }
    async with (
        httpx.AsyncClient(base_url=f"http://{door}", trust_env=False, verify=False, timeout=60) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            usage = chunk.get("usage")
            if usage and usage["completion_tokens"] != num_tokens:
                raise RuntimeError(f"asked for {num_tokens} tokens, got {usage['completion_tokens']}")
            for choice in chunk["choices"]:
                if choice["delta"].get("content") is not None and "role" not in choice["delta"]:
                    yield choice["delta"]["content"]


BARE = "bare session"
DIALECTS: dict[str, Ask] = {"/api/v1/run": ask_run, "/v1/chat/completions": ask_chat}


# --- 1. time per token ---


@contextlib.asynccontextmanager
async def client_node(state_dir: Path, hop: Address) -> AsyncIterator[Node]:
    """Run a node without blocks in this process, once it knows the hop."""
    node = Node(NodeConfig(listen=ANYWHERE, join=(hop,), state_dir=state_dir, swarm="bench", mdns=False))
    running = asyncio.create_task(node.run())
    try:
        async with asyncio.timeout(60):
            await node.wait_until(lambda swarm: any(p.announcement.serving for p in swarm.peers.values()))
        yield node
    finally:
        running.cancel()
        await asyncio.wait([running])


async def time_session(node: Node, num_tokens: int) -> list[float]:
    """Return the milliseconds per token of a bare session, the last hop choosing tokens."""
    serving_peer = next(p.announcement for p in node.swarm.peers.values() if p.announcement.serving)
    serving = serving_peer.serving
    assert serving is not None
    route = Route((Hop(serving_peer.peer_id, serving.span),))
    plan = SessionPlan(model=serving.model, route=route, max_tokens=num_tokens, sampling=GREEDY)
    token = np.array([[7]], dtype="<i4").tobytes()
    times_ms = []
    addresses = {serving_peer.peer_id: serving_peer.addresses}
    async with RemoteSession(node.links, plan, addresses=addresses) as session:
        for position in range(num_tokens):
            started_at = time.perf_counter()
            outcome = await session.step(
                token, TensorHeader("int32", (1, 1)), position=position, kind=StepKind.DECODE, output="token"
            )
            token = outcome.body
            times_ms.append((time.perf_counter() - started_at) * 1e3)
    return times_ms[WARM_UP_TOKENS:]


async def time_answer(ask: Ask, door: Address, num_tokens: int) -> list[float]:
    """Return the milliseconds between the tokens of an answer, as its reader sees them."""
    arrived_at = [time.perf_counter() async for _ in ask(door, num_tokens)]
    return list(np.diff(arrived_at)[WARM_UP_TOKENS:] * 1e3)


@dataclass(frozen=True)
class Round:
    """One answer or session, in milliseconds per token."""

    p50_ms: float
    mean_ms: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Round:
        return cls(statistics.median(times_ms), statistics.fmean(times_ms))


async def measure_added(node: Node, door: Address, num_tokens: int) -> dict[str, list[Round]]:
    """Return the rounds of the bare session and of each dialect, which take turns in blocks."""
    rounds: dict[str, list[Round]] = {BARE: [], **{path: [] for path in DIALECTS}}
    for _ in range(BLOCKS):
        for what, measured in rounds.items():
            for number in range(BLOCK_ROUNDS):
                if what == BARE:
                    found = Round.of(await time_session(node, num_tokens))
                else:
                    found = Round.of(await time_answer(DIALECTS[what], door, num_tokens))
                if number:  # the first one finds links and caches that were idle
                    measured.append(found)
    return rounds


# --- 2. from the token to the reader ---


class StampingNode:
    """Says at which time it says it. Implements as much of `NodeControl` as answers need.

    Args:
        status: That of a real node, in JSON.
    """

    def __init__(self, status: bytes) -> None:
        self._status = msgspec.json.decode(status, type=NodeStatus)

    def status(self) -> NodeStatus:
        """Return what the real node said."""
        return self._status

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Answer with times of the clock that all processes of a computer share."""
        hop = HopStatus(peer_id="a" * 52, short="aaaaaaaa", public_name="", start=0, end=2)
        yield Started(model="bench", route=(hop,), prompt_tokens=1, context_tokens=request.max_tokens)
        for number in range(request.max_tokens):
            await asyncio.sleep(STAMP_INTERVAL_S)
            yield Delta(text=repr(time.perf_counter()), token_ids=(number,))
        yield Finished(
            reason="length",
            prompt_tokens=1,
            completion_tokens=request.max_tokens,
            ttft_s=0.0,
            decode_tokens_per_s=0.0,
            route=(hop,),
        )


def serve_stamps(pipe: Connection, status: bytes) -> None:
    """Serve a door over a `StampingNode` until the other end of `pipe` closes."""

    async def serve() -> None:
        async with serve_door(cast(NodeControl, StampingNode(status)), ANYWHERE) as door:
            pipe.send(str(door))
            await asyncio.to_thread(pipe.poll, None)

    asyncio.run(serve())


async def measure_delivery(status: NodeStatus, num_tokens: int) -> dict[str, list[float]]:
    """Return the milliseconds from saying a token to reading it, for each dialect."""
    ours, theirs = multiprocessing.Pipe()
    process = SPAWN.Process(target=serve_stamps, args=(theirs, msgspec.json.encode(status)))
    process.start()
    try:
        door = parse_address(await asyncio.to_thread(ours.recv))
        return {
            path: [(time.perf_counter() - float(text)) * 1e3 async for text in ask(door, num_tokens) if text][
                WARM_UP_TOKENS:
            ]
            for path, ask in DIALECTS.items()
        }
    finally:
        ours.send(None)
        process.join()


# --- 3. many answers at once ---


@dataclass
class Tally:
    """What many readers of one dialect received."""

    answers: int = 0
    tokens: int = 0
    took_s: float = 0.0
    """Until the last answer that began in time had ended."""

    texts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


async def read_until(deadline: float, ask: Ask, door: Address, num_tokens: int, tally: Tally) -> None:
    """Ask again and again; every answer is read to its end."""
    while time.monotonic() < deadline:
        try:
            pieces = [piece async for piece in ask(door, num_tokens)]
        except Exception as exc:  # noqa: BLE001 - whatever it is, an answer is lost and counted
            tally.failures[f"{type(exc).__name__}: {exc}"[:100]] += 1
            continue
        tally.answers += 1
        tally.tokens += len(pieces)
        tally.texts["".join(pieces)] += 1


async def measure_streams(
    hop: Address, door: Address, path: str, *, streams: int, seconds: float, num_tokens: int
) -> tuple[Tally, int]:
    """Return what the readers had, and the tokens that the hop computed for answers meanwhile."""
    tally = Tally()
    async with ControlClient(hop) as client:
        before = (await client.status()).computed_answer_tokens
        started_at = time.monotonic()
        deadline = started_at + seconds
        await asyncio.gather(
            *(read_until(deadline, DIALECTS[path], door, num_tokens, tally) for _ in range(streams))
        )
        tally.took_s = time.monotonic() - started_at
        return tally, (await client.status()).computed_answer_tokens - before


# --- showing ---


def percentiles(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} / {float(np.percentile(values, 99)):.2f}"


def show_added(console: Console, rounds: dict[str, list[Round]]) -> None:
    """Print what the door adds: at the median, and in the rounds that other programs disturbed least."""
    table = Table(title=f"Milliseconds per token, {len(rounds[BARE])} rounds")
    for column in ("", "p50", "added", "quietest round", "added"):
        table.add_column(column, justify="right" if column else "left")
    bare = rounds[BARE]
    quiet_ms = min(r.mean_ms for r in bare)
    table.add_row(BARE, f"{statistics.median(r.p50_ms for r in bare):.2f}", "", f"{quiet_ms:.2f}", "")
    for path in DIALECTS:
        p50_ms = statistics.median(r.p50_ms for r in rounds[path])
        added_ms = p50_ms - statistics.median(r.p50_ms for r in bare)
        mean_ms = min(r.mean_ms for r in rounds[path])
        table.add_row(path, f"{p50_ms:.2f}", f"{added_ms:.2f}", f"{mean_ms:.2f}", f"{mean_ms - quiet_ms:.2f}")
    console.print(table)
    console.print(f"the aim is less than {AIM_MS:g} ms")


def show_delivery(console: Console, delivery: dict[str, list[float]]) -> None:
    """Print how long tokens are on their way."""
    table = Table(title="Milliseconds from a token in the node to its reader (p50 / p99)")
    table.add_column("")
    table.add_column("on the way", justify="right")
    for path, times_ms in delivery.items():
        table.add_row(path, percentiles(times_ms))
    console.print(table)


def show_tally(console: Console, path: str, tally: Tally, computed: int, *, num_tokens: int) -> None:
    """Print what arrived and what is missing."""
    # The first token of an answer comes from its prompt, so that the hop computes one step less.
    received = tally.tokens - tally.answers
    missing = tally.answers * num_tokens - tally.tokens
    console.print(
        f"{path}: {tally.answers} answers, {tally.tokens} tokens ({tally.tokens / tally.took_s:.0f} per s); "
        f"{missing} tokens missing, {sum(tally.failures.values())} answers failed, "
        f"{computed - received} steps of the hop without a reader, {len(tally.texts)} different texts"
    )
    for failure, count in tally.failures.most_common(5):
        console.print(f"  {count} x {failure}", markup=False)


async def measure(
    console: Console, directory: Path, hop: dict[str, Any], door: Address, options: argparse.Namespace
) -> None:
    """Run the three measurements and print each."""
    async with ControlClient(door) as client:
        await client.wait_ready(timeout_s=120)
        status = await client.status()
    async with client_node(directory / "client", parse_address(hop["listen"])) as node:
        show_added(console, await measure_added(node, door, options.tokens + WARM_UP_TOKENS))
    show_delivery(console, await measure_delivery(status, options.tokens + WARM_UP_TOKENS))
    for path in DIALECTS:
        tally, computed = await measure_streams(
            parse_address(hop["api"]),
            door,
            path,
            streams=options.streams,
            seconds=options.seconds,
            num_tokens=options.answer_tokens,
        )
        show_tally(console, path, tally, computed, num_tokens=options.answer_tokens)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100, help="timed tokens per answer and round")
    parser.add_argument("--streams", type=int, default=64, help="answers at the same time")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they go on, per dialect")
    parser.add_argument("--answer-tokens", type=int, default=100, help="tokens of each of those answers")
    options = parser.parse_args()
    cache_tokens = str(options.streams * (options.answer_tokens + 64) + 2048)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        making = SPAWN.Process(target=make_model, args=(directory / "bench",))
        making.start()
        making.join()
        serving = ("--model", str(directory / "bench"), "--quantize", "none", "--executor", "torch")
        limits = ("--threads", "1", "--cache-tokens", cache_tokens)
        with (
            daemon(directory / "hop", *serving, *limits) as hop,
            daemon(directory / "door", "--join", hop["listen"]) as asked,
        ):
            asyncio.run(measure(Console(), directory, hop, parse_address(asked["api"]), options))


if __name__ == "__main__":
    main()
