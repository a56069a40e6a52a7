import numpy as np
import pytest

from gridnode.core.shaping import LogitShaping, log_probabilities, most_probable

LOGITS = np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32)


def test_nothing_asked_for_changes_nothing() -> None:
    assert LogitShaping().is_neutral
    assert LogitShaping().apply(LOGITS, {2: 5}).tolist() == LOGITS.tolist()


def test_presence_counts_once_and_frequency_every_time() -> None:
    shaped = LogitShaping(presence_penalty=0.5, frequency_penalty=0.25).apply(LOGITS, {1: 1, 3: 4})
    assert shaped.tolist() == [1.0, 1.25, 3.0, 2.5]


def test_biases_are_added_and_tokens_beyond_the_vocabulary_ignored() -> None:
    shaped = LogitShaping(bias={0: 100.0, 3: -100.0, 99: 1.0}).apply(LOGITS, {})
    assert shaped.tolist() == [101.0, 2.0, 3.0, -96.0]


def test_tokens_that_are_not_allowed_cannot_be_chosen() -> None:
    shaped = LogitShaping(bias={3: 100.0}).apply(LOGITS, {}, np.array([True, False, True, False]))
    assert shaped.tolist() == [1.0, -np.inf, 3.0, -np.inf]
    assert LOGITS.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_logprobs_are_those_of_the_softmax() -> None:
    weights = np.exp(LOGITS.astype(np.float64))
    assert log_probabilities(LOGITS) == pytest.approx(np.log(weights / weights.sum()))
    assert log_probabilities(np.array([0.0, -np.inf])).tolist() == [0.0, -np.inf]


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, [3, 2]), (9, [3, 2, 1, 0])])
def test_the_most_probable_come_first(count: int, expected: list[int]) -> None:
    assert most_probable(log_probabilities(LOGITS), count) == expected
