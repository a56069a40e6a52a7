"""A node without a swarm: answers with the words it was given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from gridnode.control.answer_schema import (
    AnswerEvent,
    Delta,
    Embedded,
    EmbedRequest,
    Finished,
    GenerateRequest,
    HopStatus,
    Rerouted,
    Started,
)
from gridnode.control.history import Activity, Sample, Work
from gridnode.control.score_schema import AnswerScore, Scored, ScoreRequest, TextScore
from gridnode.control.status_schema import (
    EngineStatus,
    ModelStatus,
    NodeStatus,
    PauseRequest,
    PauseStatus,
    PeerStatus,
    ServingStatus,
)
from gridnode.errors import GridError, PeerLost

HOP = HopStatus(
    peer_id="a" * 52,
    short="aaaaaaaa",
    public_name="Ada",
    start=0,
    end=30,
    rtt_s=0.0004,
    steps=2,
    compute_s=0.011,
    hop_s=0.0125,
    received_bytes=64,
    sent_bytes=48,
)

SERVING = ServingStatus(
    model="tiny",
    manifest="f" * 64,
    num_blocks=30,
    start=0,
    end=30,
    quantization="int8",
    has_embeddings=True,
    has_head=True,
    max_session_tokens=8192,
    free_cache_tokens=8000,
    decode_tokens_per_s=88.0,
)

STATUS = NodeStatus(
    version="0.1.0",
    peer_id="a" * 52,
    short="aaaaaaaa",
    public_name="Ada",
    swarm="home",
    state="online",
    uptime_s=12.0,
    pid=4711,
    listen="127.0.0.1:7338",
    engine=EngineStatus(state="ready", loaded_blocks=30, wanted_blocks=30),
    open_sessions=0,
    total_cache_tokens=8192,
    peers=(
        PeerStatus(
            peer_id="a" * 52,
            short="aaaaaaaa",
            public_name="Ada",
            version="0.1.0",
            state="online",
            is_self=True,
            path="self",
            address="127.0.0.1:7338",
            rtt_s=None,
            serving=SERVING,
        ),
    ),
    models=(
        ModelStatus(
            name="tiny",
            manifest="f" * 64,
            num_blocks=30,
            gaps=(),
            min_replicas=1,
            context_tokens=8192,
            route="aaaaaaaa 0:30",
        ),
    ),
)


@dataclass
class FakeHistory:
    """Implements `History` with what it was given."""

    activities: tuple[Activity, ...] = ()
    """Newest first."""

    sampled: dict[str, tuple[Sample, ...]] = field(default_factory=dict)
    worked: tuple[Work, ...] = ()

    async def activity(
        self, *, before: int | None = None, limit: int = 50, peer_id: str = "", kind: str = ""
    ) -> tuple[Activity, ...]:
        return tuple(
            a
            for a in self.activities
            if (before is None or a.number < before) and peer_id in ("", a.peer_id) and kind in ("", a.kind)
        )[:limit]

    async def samples(self, peer_id: str) -> tuple[Sample, ...]:
        return self.sampled.get(peer_id, ())

    async def work(self) -> tuple[Work, ...]:
        return self.worked


@dataclass
class FakeNode:
    """Implements `NodeControl`."""

    words: tuple[str, ...] = ("Par", "is", ".")
    error: GridError | None = None
    """Raised before the first event, or behind `fail_after` words."""

    fail_after: int | None = None
    hang_after: int | None = None
    """Say this many words, then wait for ever."""

    reroute_after: int | None = None
    """Say this many words, then lose a hop."""

    ending: dict[str, object] = field(default_factory=dict)
    """Fields of `Finished` that say something else than usual."""

    script: tuple[AnswerEvent, ...] = ()
    """The events to answer with, instead of words."""

    current: NodeStatus = STATUS
    requests: list[GenerateRequest] = field(default_factory=list)
    num_running: int = 0
    history: FakeHistory = field(default_factory=FakeHistory)
    silent: frozenset[str] = frozenset()
    """Full ids of peers that do not answer."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def status(self) -> NodeStatus:
        return self.current

    async def reach(self, peer_id: str) -> float | None:
        if peer_id in self.silent:
            raise PeerLost(f"node {peer_id[:8]} does not answer")
        return 0.012

    async def wait_change(self) -> None:
        changed = self.changed
        await changed.wait()

    def become(self, status: NodeStatus) -> None:
        """Have another status from now on, and tell those who wait for it."""
        self.current = status
        self.changed.set()
        self.changed = asyncio.Event()

    def with_engine(self, state: str, **numbers: int) -> None:
        engine = EngineStatus(state=state, **numbers)  # type: ignore[arg-type]
        self.current = replace(self.current, engine=engine)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        self.requests.append(request)
        self.num_running += 1
        try:
            if self.error and self.fail_after is None:
                raise self.error
            if self.script:
                for event in self.script:
                    yield event
                return
            yield Started(model="tiny", route=(HOP,), prompt_tokens=5, context_tokens=64)
            for i, word in enumerate(self.words):
                if self.error and i == self.fail_after:
                    raise self.error
                if i == self.reroute_after:
                    yield Rerouted(route=(replace(HOP, short="bbbbbbbb"),))
                if i == self.hang_after:
                    await asyncio.get_running_loop().create_future()
                yield Delta(text=word, token_ids=(i,))
            finished = Finished(
                reason="stop",
                prompt_tokens=5,
                completion_tokens=len(self.words),
                ttft_s=0.05,
                decode_tokens_per_s=40.0,
                route=(HOP,),
            )
            yield replace(finished, **self.ending)
        finally:
            self.num_running -= 1

    def pause(self, request: PauseRequest) -> None:
        self.current = replace(
            self.current,
            state="paused",
            pause=PauseStatus(reason=request.reason, remaining_s=request.duration_s),
        )

    def resume(self) -> None:
        self.current = replace(self.current, state="online", pause=None)

    async def embed(self, request: EmbedRequest) -> Embedded:
        if self.error:
            raise self.error
        count = len(request.texts) + len(request.token_ids)
        return Embedded(model="tiny", vectors=((0.6, 0.8),) * count, prompt_tokens=5 * count)

    async def score(self, request: ScoreRequest) -> Scored:
        if self.error:
            raise self.error
        return Scored(model="tiny", scores=tuple(_score(text, request.answers) for text in request.texts))

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        if self.error:
            raise self.error
        text = request.prompt + "".join(message.content for message in request.messages)
        return (*request.token_ids, *text.encode())


def _score(text: str, answers: tuple[str, ...]) -> TextScore:
    """The longer, the less probable."""
    if not text:
        return TextScore(log_likelihood=0.0, num_tokens=0, problem="a text without tokens")
    sums = [-float(len(answer)) for answer in answers]
    return TextScore(
        log_likelihood=max(sums, default=-float(len(text))),
        num_tokens=len(text),
        answers=tuple(
            AnswerScore(answer=answer, log_likelihood=total, probability=1 / len(answers))
            for answer, total in zip(answers, sums, strict=True)
        ),
    )
