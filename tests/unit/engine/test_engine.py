from pathlib import Path

import numpy as np
import pytest

from gridnode.core.models import QuantFormat
from gridnode.core.sampling import SamplingParams, sample
from gridnode.core.spans import Span
from gridnode.engine.engine import Engine
from gridnode.engine.requests import (
    CloseLease,
    EngineConfig,
    LeaseClosed,
    LeaseOpened,
    Load,
    OpenLease,
    StepAnswer,
    StepRequest,
)
from gridnode.engine.step_queue import StepRun
from gridnode.errors import BadInput, CacheFull, ContextFull, EngineFailed, GridError
from gridnode.wire.frames import MAX_BODY_BYTES
from gridnode.wire.messages import Output
from gridnode.wire.tensors import TensorHeader

TOTAL_TOKENS = 100
WHOLE = Span(0, 4)


def make_engine(path: Path, span: Span = WHOLE, *, chunk: int = 256) -> Engine:
    config = EngineConfig(
        location=str(path),
        span=span,
        executor="torch",
        dtype="float32",
        quantization=QuantFormat.NONE,
        cache_tokens=TOTAL_TOKENS,
        num_threads=1,
        prefill_chunk_tokens=chunk,
    )
    return Engine(config, on_progress=lambda _: None)


@pytest.fixture(scope="module")
def shared(tiny_llama: Path) -> Engine:
    return make_engine(tiny_llama)


@pytest.fixture
def engine(shared: Engine) -> Engine:
    """The shared engine with lease 1 of 50 tokens, and nothing else."""
    for lease in range(10):
        shared.handle(CloseLease(number=0, lease=lease))
    shared.handle(OpenLease(number=0, lease=1, span=Span(0, 4), batch=1, max_tokens=50))
    return shared


def free(engine: Engine) -> int:
    answer = engine.handle(CloseLease(number=0, lease=99))
    assert isinstance(answer, LeaseClosed)
    return answer.free_cache_tokens


def step(
    engine: Engine,
    token_ids: list[int],
    position: int = 0,
    *,
    lease: int = 1,
    output: Output = "logits",
    sampling: SamplingParams | None = None,
    history: tuple[int, ...] = (),
) -> np.ndarray:
    body = np.array([token_ids], dtype="<i4").tobytes()
    tensor = TensorHeader("int32", (1, len(token_ids)))
    return raw_step(
        engine, body, tensor, position, lease=lease, output=output, sampling=sampling, history=history
    )


def raw_step(
    engine: Engine,
    body: bytes,
    tensor: TensorHeader,
    position: int = 0,
    *,
    lease: int = 1,
    output: Output = "logits",
    sampling: SamplingParams | None = None,
    history: tuple[int, ...] = (),
) -> np.ndarray:
    request = StepRequest(
        number=7,
        lease=lease,
        position=position,
        tensor=tensor,
        output=output,
        sampling=sampling,
        history=history,
    )
    run = StepRun(request, body)
    engine.prepare(run)
    while not run.is_done:
        engine.compute([run])
    answer, answer_body = engine.finish(run)
    assert isinstance(answer, StepAnswer)
    assert answer.number == 7
    assert answer.compute_s > 0
    dtype = {"float32": "<f4", "int32": "<i4"}[answer.tensor.dtype]
    return np.frombuffer(answer_body, dtype=dtype).reshape(answer.tensor.shape)


def test_steps_answer_what_was_asked(engine: Engine) -> None:
    assert step(engine, [1, 2, 3], output="none").size == 0
    assert step(engine, [4], 3, output="logits").shape == (1, 1, 260)
    assert step(engine, [4, 5], 3, output="all_logits").shape == (1, 2, 260)
    assert step(engine, [4, 5], 3, output="hidden").shape == (1, 2, 64)
    assert step(engine, [4, 5], 3, output="token").shape == (1,)


@pytest.mark.parametrize(
    "sampling",
    [None, SamplingParams(temperature=1.0, seed=3), SamplingParams(repetition_penalty=1.5)],
    ids=["greedy", "sampled", "penalized"],
)
def test_the_worker_chooses_what_its_logits_say(engine: Engine, sampling: SamplingParams | None) -> None:
    logits = step(engine, [1, 2, 3], output="logits")[0, -1]
    token = step(engine, [1, 2, 3], output="token", sampling=sampling, history=(1, 2, 3))
    expected = sample(logits, sampling or SamplingParams(), position=3, history=(1, 2, 3))
    assert token.tolist() == [expected]


@pytest.mark.parametrize(
    "sampling",
    [None, SamplingParams(temperature=1.0, seed=3), SamplingParams(repetition_penalty=1.5)],
    ids=["greedy", "sampled", "penalized"],
)
def test_tokens_behind_drafts_are_those_that_single_steps_choose(
    engine: Engine, sampling: SamplingParams | None
) -> None:
    text = [1, 2, 3, 9, 9, 40, 2]
    step(engine, text[:3], output="none")
    alone = [
        step(engine, [text[end - 1]], end - 1, output="token", sampling=sampling, history=tuple(text[:end]))[
            0
        ]
        for end in range(4, 8)
    ]
    together = step(engine, text[3:], 3, output="tokens", sampling=sampling, history=tuple(text))
    assert together.tolist() == [alone]


def test_more_drafts_than_a_decode_step_takes_are_refused(engine: Engine) -> None:
    with pytest.raises(BadInput, match="behind each of 9, at most 8"):
        step(engine, [1] * 9, output="tokens")


def test_long_steps_are_computed_in_chunks_with_the_same_result(tiny_llama: Path, engine: Engine) -> None:
    chunked = make_engine(tiny_llama, chunk=4)
    chunked.handle(OpenLease(number=0, lease=1, span=Span(0, 4), batch=1, max_tokens=50))
    prompt = list(range(30))
    for output in ("logits", "all_logits", "hidden"):
        whole, pieces = step(engine, prompt, output=output), step(chunked, prompt, output=output)  # type: ignore[arg-type]
        assert whole.shape == pieces.shape
        assert np.abs(whole - pieces).max() < 1e-3


@pytest.mark.parametrize(
    ("token_ids", "position", "lease", "text"),
    [
        ([1], 6, 1, "position 6, the session holds 5 tokens"),
        ([-1], 5, 1, "token ids outside"),
        ([260], 5, 1, "token ids outside"),
        ([1], 5, 2, "no lease 2"),
        ([], 5, 1, "shape"),
    ],
)
def test_hostile_steps_are_refused_and_change_nothing(
    engine: Engine, token_ids: list[int], position: int, lease: int, text: str
) -> None:
    step(engine, [1, 2, 3, 4, 5])
    expected = step(engine, [6], 5)
    step(engine, [1, 2, 3, 4, 5])
    with pytest.raises(BadInput, match=text):
        step(engine, token_ids, position, lease=lease)
    assert np.abs(step(engine, [6], 5) - expected).max() < 1e-5
    assert free(engine) == 50


@pytest.mark.parametrize(
    "tensor",
    [
        TensorHeader("float32", (1, 2, 63)),
        TensorHeader("float32", (2, 1, 64)),
        TensorHeader("float32", (64,)),
        TensorHeader("int32", (2, 1)),
        TensorHeader("int32", (1, 1, 1)),
    ],
    ids=str,
)
def test_tensors_of_the_wrong_shape_are_refused(engine: Engine, tensor: TensorHeader) -> None:
    with pytest.raises(BadInput, match=r"shape|width"):
        raw_step(engine, bytes(tensor.num_bytes), tensor)


def test_more_tokens_than_leased_are_refused_with_numbers(engine: Engine) -> None:
    step(engine, [1] * 50)
    with pytest.raises(ContextFull) as caught:
        step(engine, [1], 50)
    assert (caught.value.wanted_tokens, caught.value.limit_tokens) == (51, 50)


def test_a_history_outside_the_vocabulary_is_refused(engine: Engine) -> None:
    penalty = SamplingParams(repetition_penalty=1.5)
    with pytest.raises(BadInput, match=r"history outside 0\.\.260: 260"):
        step(engine, [1], output="token", sampling=penalty, history=(3, 260))


def test_a_result_that_no_frame_can_carry_is_refused_before_it_is_computed(tiny_llama: Path) -> None:
    config = EngineConfig(location=str(tiny_llama), span=WHOLE, cache_tokens=30_000, num_threads=1)
    large = Engine(config, on_progress=lambda _: None)
    large.handle(OpenLease(number=0, lease=1, span=WHOLE, batch=1, max_tokens=30_000))
    most = MAX_BODY_BYTES // (260 * 4)
    with pytest.raises(BadInput, match=rf"all_logits of {most + 1} tokens .* give {most} tokens at a time"):
        step(large, [1] * (most + 1), output="all_logits")


@pytest.mark.parametrize("sampling", [None, SamplingParams(temperature=1.0)], ids=["greedy", "sampled"])
def test_no_token_is_chosen_from_logits_that_are_not_numbers(
    tiny_llama: Path, sampling: SamplingParams | None
) -> None:
    last = make_engine(tiny_llama, Span(3, 4))
    last.handle(OpenLease(number=0, lease=1, span=Span(3, 4), batch=1, max_tokens=10))
    body = np.full((1, 1, 64), np.nan, np.float32).tobytes()
    with pytest.raises(EngineFailed, match=r"logits of position 1 are not numbers.*other nodes"):
        raw_step(last, body, TensorHeader("float32", (1, 1, 64)), output="token", sampling=sampling)


def test_sessions_computed_together_get_what_they_get_alone(engine: Engine) -> None:
    engine.handle(OpenLease(number=0, lease=2, span=WHOLE, batch=1, max_tokens=50))
    alone = [step(engine, tokens, lease=lease) for lease, tokens in ((1, [1, 2, 3]), (2, [4, 5]))]
    runs = []
    for lease, tokens in ((1, [1, 2, 3]), (2, [4, 5])):
        tensor = TensorHeader("int32", (1, len(tokens)))
        request = StepRequest(number=lease, lease=lease, position=0, tensor=tensor, output="logits")
        runs.append(StepRun(request, np.array([tokens], dtype="<i4").tobytes()))
        engine.prepare(runs[-1])
    engine.compute(runs)
    for run, expected in zip(runs, alone, strict=True):
        found = np.frombuffer(engine.finish(run)[1], "<f4").reshape(expected.shape)
        assert np.abs(found - expected).max() < 1e-5


def test_what_a_step_overwrote_before_it_was_dropped_does_not_count(engine: Engine, tiny_llama: Path) -> None:
    chunked = make_engine(tiny_llama, chunk=4)
    chunked.handle(OpenLease(number=0, lease=1, span=WHOLE, batch=1, max_tokens=50))
    step(chunked, list(range(20)))
    tensor = TensorHeader("int32", (1, 12))
    request = StepRequest(number=0, lease=1, position=2, tensor=tensor, output="none")
    run = StepRun(request, np.full((1, 12), 9, dtype="<i4").tobytes())
    chunked.prepare(run)
    chunked.compute([run])  # and then it is cancelled
    with pytest.raises(BadInput, match="position 20, the session holds 6 tokens"):
        step(chunked, [1], 20)
    expected = step(engine, [0, 1, 9, 9, 9, 9, 7])
    assert np.abs(step(chunked, [7], 6) - expected).max() < 1e-4


def test_a_middle_span_takes_hidden_states_and_has_no_head(tiny_llama: Path) -> None:
    middle = make_engine(tiny_llama, Span(1, 3))
    middle.handle(OpenLease(number=0, lease=1, span=Span(1, 3), batch=1, max_tokens=10))
    hidden = TensorHeader("float32", (1, 1, 64))
    assert raw_step(middle, bytes(256), hidden, output="hidden").shape == (1, 1, 64)
    with pytest.raises(BadInput, match="take hidden states"):
        step(middle, [1])
    with pytest.raises(BadInput, match="end before the head"):
        raw_step(middle, bytes(256), hidden, output="token")


def test_leases_are_granted_refused_and_freed(engine: Engine) -> None:
    with pytest.raises(CacheFull) as caught:
        engine.handle(OpenLease(number=0, lease=2, span=Span(0, 4), batch=1, max_tokens=51))
    assert (caught.value.wanted_tokens, caught.value.free_tokens) == (51, 50)
    answer = engine.handle(OpenLease(number=3, lease=2, span=Span(0, 2), batch=2, max_tokens=50))
    assert answer == LeaseOpened(number=3, free_cache_tokens=0)
    with pytest.raises(BadInput, match="open already"):
        engine.handle(OpenLease(number=0, lease=2, span=Span(0, 2), batch=1, max_tokens=1))
    assert engine.handle(CloseLease(number=4, lease=2)) == LeaseClosed(number=4, free_cache_tokens=50)


def test_a_worker_loads_one_span(engine: Engine, tiny_llama: Path) -> None:
    with pytest.raises(GridError, match="one span"):
        engine.handle(Load(number=0, config=EngineConfig(location=str(tiny_llama), span=Span(0, 1))))


def test_the_loaded_span_is_described(engine: Engine) -> None:
    """A27."""
    loaded = engine.describe(3, load_s=1.0, resident_bytes=5)
    assert (loaded.executor, loaded.dtype) == ("torch", "float32")
    assert loaded.has_embeddings
    assert loaded.has_head
    assert loaded.total_cache_tokens == loaded.max_session_tokens == TOTAL_TOKENS
    assert 0 < loaded.decode_block_s < 1


def test_rows_of_a_beam_search_go_on_from_their_parents(engine: Engine) -> None:
    past, new = np.array([[1, 2, 3], [4, 5, 6]], "<i4"), np.array([[7], [7]], "<i4")

    def run(lease: int, token_ids: np.ndarray, position: int, parents: tuple[int, ...] = ()) -> np.ndarray:
        request = StepRequest(
            number=7,
            lease=lease,
            parents=parents,
            position=position,
            tensor=TensorHeader("int32", token_ids.shape),
            output="logits",
        )
        step_run = StepRun(request, token_ids.tobytes())
        engine.prepare(step_run)
        engine.compute([step_run])
        return np.frombuffer(engine.finish(step_run)[1], "<f4").reshape(2, -1)

    for lease in (2, 3):
        engine.handle(OpenLease(number=0, lease=lease, span=WHOLE, batch=2, max_tokens=10))
    run(2, past, 0)
    run(3, past[[1, 1]], 0)
    found, expected = run(2, new, 3, parents=(1, 1)), run(3, new, 3)
    assert np.abs(found - expected).max() < 1e-5
    for parents in ((0,), (0, 2), (0, 1, 1)):
        with pytest.raises(BadInput, match="session of 2 rows"):
            run(2, new, 4, parents=parents)
