import pytest

from gridnode.engine.requests import StepRequest
from gridnode.engine.step_queue import StepQueue, StepRun
from gridnode.wire.tensors import TensorHeader

CHUNK = 256


def run(number: int, lease: int, num_tokens: int = 1) -> StepRun:
    tensor = TensorHeader("int32", (1, num_tokens))
    return StepRun(StepRequest(number=number, lease=lease, position=0, tensor=tensor, output="none"), b"")


def queue_of(*runs: StepRun) -> StepQueue:
    queue = StepQueue()
    for each in runs:
        queue.add(each)
    return queue


def turns(queue: StepQueue, limit: int = 100) -> list[list[int]]:
    """Return the numbers of the steps of each turn, until every step has ended."""
    found = []
    while queue:
        assert len(found) < limit
        chosen = queue.next_turn()
        found.append([each.request.number for each in chosen])
        for each in chosen:
            each.done_tokens = min(each.done_tokens + CHUNK, each.num_tokens)
            if each.done_tokens == each.num_tokens:
                queue.remove(each)
    return found


def test_decode_steps_of_all_leases_are_computed_together() -> None:
    assert turns(queue_of(run(1, lease=1), run(2, lease=2), run(3, lease=3, num_tokens=4))) == [[1, 2, 3]]


def test_steps_of_one_lease_keep_their_order() -> None:
    queue = queue_of(run(1, lease=1), run(2, lease=1), run(3, lease=2), run(4, lease=1, num_tokens=300))
    assert turns(queue) == [[1, 3], [2], [4], [4]]


def test_prompts_and_decode_steps_take_turns() -> None:
    prompt = run(1, lease=1, num_tokens=3 * CHUNK)
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
