import random
from collections.abc import Callable

import pytest

from gridnode.engine.requests import StepRequest
from gridnode.engine.step_queue import (
    MAX_DECODE_TOKENS,
    MAX_STALL_S,
    MAX_TURN_TOKENS,
    MIN_CHUNK_TOKENS,
    StepQueue,
    StepRun,
)
from gridnode.errors import BadInput
from gridnode.wire.tensors import TensorHeader

CHUNK = 256


def run(number: int, lease: int, num_tokens: int = 1, batch: int = 1) -> StepRun:
    tensor = TensorHeader("int32", (batch, num_tokens))
    return StepRun(StepRequest(number=number, lease=lease, position=0, tensor=tensor, output="none"), b"")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue_of(*runs: StepRun) -> StepQueue:
    queue = StepQueue(chunk_tokens=CHUNK, clock=Clock())
    for each in runs:
        queue.add(each)
    return queue


def turns(queue: StepQueue, limit: int = 100) -> list[list[int]]:
    """Return the numbers of the steps of each turn, until every step has ended; all take no time."""
    found = []
    while queue:
        assert len(found) < limit
        chosen = queue.next_turn()
        found.append([each.request.number for each in chosen])
        for each in chosen:
            each.done_tokens = min(each.done_tokens + each.chunk_tokens, each.num_tokens)
            if each.done_tokens == each.num_tokens:
                queue.remove(each)
    return found


def test_decode_steps_of_all_leases_are_computed_together() -> None:
    assert turns(queue_of(run(1, lease=1), run(2, lease=2), run(3, lease=3, num_tokens=4))) == [[1, 2, 3]]


def test_steps_of_one_lease_keep_their_order() -> None:
    queue = queue_of(run(1, lease=1), run(2, lease=1), run(3, lease=2), run(4, lease=1, num_tokens=300))
    assert turns(queue) == [[1, 3], [2], [4], [4]]


def test_prompts_and_decode_steps_take_turns() -> None:
    """A20."""
    prompt = run(1, lease=1, num_tokens=3 * MIN_CHUNK_TOKENS)
    queue = queue_of(prompt, *(run(number, lease=2) for number in (2, 3, 4, 5)))
    assert turns(queue) == [[2], [1], [3], [1], [4], [1], [5]]


def test_nobody_waits_for_more_than_one_chunk_of_the_prompts_of_others() -> None:
    queue = queue_of(*(run(lease, lease, num_tokens=10 * CHUNK) for lease in range(8)))
    queue.next_turn()
    queue.add(run(99, lease=99))
    next_two = [[each.request.number for each in queue.next_turn()] for _ in range(2)]
    assert [99] in next_two


def test_prompts_share_the_turns_among_them() -> None:
    queue = queue_of(*(run(lease, lease, num_tokens=2 * CHUNK) for lease in (1, 2, 3)))
    assert turns(queue) == [[1], [2], [3], [1], [2], [3]]


def test_a_closed_lease_takes_its_steps_along() -> None:
    first, second, other = run(1, lease=1), run(2, lease=1), run(3, lease=2)
    queue = queue_of(first, second, other)
    assert queue.drop_lease(1) == [first, second]
    assert queue.drop_lease(1) == []
    assert turns(queue) == [[3]]


def test_a_waiting_step_is_found_by_its_number() -> None:
    waiting = run(7, lease=1)
    queue = queue_of(run(6, lease=1), waiting)
    assert queue.find(7) is waiting
    assert queue.find(8) is None
    queue.remove(waiting)
    assert queue.find(7) is None


def test_an_empty_queue_has_no_turn() -> None:
    assert not StepQueue()
    assert StepQueue().next_turn() == []


@pytest.mark.parametrize("shape", [(), (3,), (1, 2), (1, 2, 64)])
def test_the_tokens_of_a_step_are_its_second_dimension(shape: tuple[int, ...]) -> None:
    request = StepRequest(number=0, lease=0, position=0, tensor=TensorHeader("int32", shape), output="none")
    assert StepRun(request, b"").num_tokens == (shape[1] if len(shape) > 1 else 0)


class Executor:
    """Computes turns in fake time: reading the weights, and each token."""

    WEIGHTS_S = 0.02
    TOKEN_S = 0.007

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = StepQueue(chunk_tokens=CHUNK, clock=self.clock)
        self.came_at: dict[int, float] = {}
        self.waited_s: dict[int, float] = {}
        """By the number of each step: until it ended, its own turn included."""

        self.turns: list[tuple[float, list[StepRun]]] = []

    def add(self, number: int, lease: int, num_tokens: int = 1, batch: int = 1) -> None:
        step = run(number, lease, num_tokens, batch)
        self.came_at[number] = self.clock.now
        self.queue.add(step)

    def take_turn(self) -> list[StepRun]:
        """Compute one turn; return the steps that ended with it."""
        turn = self.queue.next_turn()
        tokens = 0
        for each in turn:
            chunk = min(each.chunk_tokens, each.num_tokens - each.done_tokens)
            each.done_tokens += chunk
            tokens += chunk * each.num_rows
        elapsed_s = self.WEIGHTS_S + tokens * self.TOKEN_S
        self.clock.now += elapsed_s
        self.turns.append((elapsed_s, turn))
        self.queue.turn_ended(turn, elapsed_s)
        ended = [each for each in turn if each.done_tokens == each.num_tokens]
        for each in ended:
            self.queue.remove(each)
            number = each.request.number
            self.waited_s[number] = self.clock.now - self.came_at[number]
        return ended


@pytest.mark.parametrize("seed", range(8))
def test_no_session_waits_more_than_its_turn(seed: int) -> None:
    """Sessions decode, send drafts and prompts, come and go; each step waits for one round at most."""
    chance = random.Random(seed)
    executor, number = Executor(), 0
    num_leases = chance.choice([1, 3, 9, 100])
    drafts = chance.choice([1, MAX_DECODE_TOKENS])
    coming = [(chance.uniform(0, 3), lease) for lease in range(num_leases)]
    sent = dict.fromkeys(range(num_leases), 0)
    prompts: set[int] = set()
    while executor.queue or coming:
        now = executor.clock.now
        for at, lease in sorted(coming):
            if at <= now or not executor.queue:
                executor.clock.now = max(executor.clock.now, at)
                coming.remove((at, lease))
                is_prompt = sent[lease] == 0 and chance.random() < 0.3
                tokens = chance.randint(9, 2048) if is_prompt else chance.randint(1, drafts)
                number += 1
                executor.add(number, lease, tokens)
                prompts |= {number} if is_prompt else set()
                sent[lease] += 1
        for ended in executor.take_turn():
            lease = ended.request.lease
            if sent[lease] < 12:
                coming.append((executor.clock.now + chance.choice([0.0, 0.001, 0.05]), lease))
    tokens_per_round = num_leases * drafts
    turns_per_round = -(-tokens_per_round // (MAX_TURN_TOKENS - drafts + 1))
    # A turn is under way when a step comes; then come those before it, each behind one chunk, and itself.
    longest_turn_s = max(elapsed_s for elapsed_s, turn in executor.turns if not turn[0].is_prompt)
    beside = [s for s, turn in executor.turns if turn[0].is_prompt]
    longest_chunk_s = max(beside, default=0.0)
    bound_s = (turns_per_round + 1) * (longest_turn_s + longest_chunk_s)
    decoded = {n: s for n, s in executor.waited_s.items() if n not in prompts}
    assert len(executor.waited_s) == sum(sent.values())
    assert max(decoded.values(), default=0.0) <= bound_s + 1e-9


def test_more_steps_than_fit_into_a_turn_go_round() -> None:
    executor = Executor()
    for lease in range(3 * MAX_TURN_TOKENS):
        executor.add(lease, lease)
    numbers = [sorted(each.request.number for each in executor.take_turn()) for _ in range(3)]
    assert numbers == [list(range(n * MAX_TURN_TOKENS, (n + 1) * MAX_TURN_TOKENS)) for n in range(3)]


def test_rows_of_a_session_count_as_tokens_and_one_that_is_too_large_goes_alone() -> None:
    executor = Executor()
    for number, batch in enumerate([40, 24, 1, 200, 1]):
        executor.add(number, number, batch=batch)
    found = [[each.request.number for each in executor.take_turn()] for _ in range(4)]
    assert found == [[0, 1], [2], [3], [4]]


def chunks(executor: Executor, until: Callable[[], bool]) -> list[int]:
    found = []
    while not until():
        executor.take_turn()
        turn = executor.turns[-1][1]
        if turn and turn[0].is_prompt:
            found.append(turn[0].chunk_tokens)
    return found


def test_chunks_are_short_beside_others_who_decode_and_long_otherwise() -> None:
    executor = Executor()
    executor.add(0, 0, num_tokens=4096)
    assert chunks(executor, lambda: len(executor.turns) == 2) == [CHUNK, CHUNK]
    executor.add(1, lease=1)
    executor.take_turn()
    assert chunks(executor, lambda: len(executor.turns) == 4)[0] < 32
    elapsed_s = executor.turns[-1][0]
    assert elapsed_s <= MAX_STALL_S + MIN_CHUNK_TOKENS * executor.TOKEN_S
    # The next decode step is on its way for a while; then nobody is disturbed any more.
    executor.clock.now += 2.0
    assert chunks(executor, lambda: len(executor.turns) == 5) == [CHUNK]


def test_a_chunk_is_short_beside_a_step_that_waits() -> None:
    executor = Executor()
    executor.add(0, 0, num_tokens=4096)
    executor.add(1, 1, num_tokens=MAX_DECODE_TOKENS)
    executor.take_turn()
    executor.clock.now += 2.0
    executor.add(2, 2)
    assert chunks(executor, lambda: len(executor.turns) == 2) == [MIN_CHUNK_TOKENS]


def test_a_prompt_is_not_slowed_by_the_steps_of_its_own_session() -> None:
    executor = Executor()
    executor.add(0, 0)
    executor.take_turn()
    executor.add(1, 0, num_tokens=1000)
    assert chunks(executor, lambda: len(executor.turns) == 2) == [CHUNK]


def test_a_prompt_beside_many_who_decode_gets_half_of_the_time() -> None:
    executor = Executor()
    for lease in range(1, 33):
        executor.add(lease, lease)
    executor.add(0, 0, num_tokens=2048)
    number = 100
    while 0 not in executor.waited_s:
        for ended in executor.take_turn():
            number += 1
            executor.add(number, ended.request.lease)
    of_prompt = sum(elapsed_s for elapsed_s, turn in executor.turns if turn[0].is_prompt)
    assert of_prompt > 0.4 * executor.clock.now


def test_the_short_end_of_a_prompt_tells_the_same_about_the_next_one() -> None:
    executor = Executor()
    executor.add(0, 0, num_tokens=CHUNK + 4)
    assert chunks(executor, lambda: 0 in executor.waited_s) == [CHUNK, 4]
    executor.add(1, 1)
    executor.take_turn()
    executor.add(2, 2, num_tokens=1000)
    executor.take_turn()
    assert executor.turns[-1][0] <= MAX_STALL_S + MIN_CHUNK_TOKENS * executor.TOKEN_S


def test_a_step_that_failed_at_once_says_nothing_about_the_next_one() -> None:
    executor = Executor()
    executor.add(0, 0, num_tokens=CHUNK)
    executor.take_turn()
    executor.add(1, 1, num_tokens=CHUNK)
    failed = executor.queue.next_turn()
    executor.queue.remove(failed[0])
    executor.queue.turn_ended(failed, 1e-6)
    executor.add(2, 2)
    executor.take_turn()
    executor.add(3, 3, num_tokens=1000)
    executor.take_turn()
    assert executor.turns[-1][0] <= MAX_STALL_S + MIN_CHUNK_TOKENS * executor.TOKEN_S


@pytest.mark.parametrize(("rows", "alone", "beside"), [(2, CHUNK // 2, 8), (32, 8, 1), (1000, 1, 1)])
def test_the_rows_of_a_prompt_share_its_chunk(rows: int, alone: int, beside: int) -> None:
    executor = Executor()
    executor.add(0, 0, num_tokens=1024, batch=rows)
    assert chunks(executor, lambda: len(executor.turns) == 1) == [alone]
    executor.add(1, 1, num_tokens=MAX_DECODE_TOKENS)
    assert chunks(executor, lambda: len(executor.turns) == 3) == [beside]


@pytest.mark.parametrize("shape", [(), (5,), (0, 100), (1, 0), (0, 0)])
def test_steps_without_tokens_are_refused(shape: tuple[int, ...]) -> None:
    request = StepRequest(number=1, lease=1, position=0, tensor=TensorHeader("int32", shape), output="none")
    queue = queue_of()
    with pytest.raises(BadInput, match="has no tokens"):
        queue.add(StepRun(request, b""))
    assert not queue
