import numpy as np
import pytest

from gridnode.core.sampling import SamplingParams, probabilities, sample, uniform

LOGITS = np.array([1.0, 3.0, 2.0, -1.0, 0.5], dtype=np.float32)


def test_the_default_takes_the_most_probable_token() -> None:
    assert sample(LOGITS, SamplingParams(), position=7) == 1


def test_the_choice_depends_on_seed_and_position_alone() -> None:
    params = SamplingParams(temperature=1.0, seed=3)
    chosen = [sample(LOGITS, params, position=p) for p in range(200)]
    assert chosen == [sample(LOGITS, params, position=p) for p in range(200)]
    assert chosen != [sample(LOGITS, SamplingParams(temperature=1.0, seed=4), position=p) for p in range(200)]


def test_uniform_numbers_are_uniform() -> None:
    numbers = np.array([uniform(1, p) for p in range(20_000)])
    counts, _ = np.histogram(numbers, bins=20, range=(0.0, 1.0))
    # chi-squared with 19 degrees of freedom: 43.8 is the 0.1 % point
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8


def test_tokens_are_drawn_with_the_probabilities_of_the_model() -> None:
    params = SamplingParams(temperature=0.8, seed=9)
    counts = np.bincount([sample(LOGITS, params, position=p) for p in range(20_000)], minlength=5)
    expected = probabilities(LOGITS, params) * 20_000
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 0.1 % point, 4 degrees of freedom


def test_top_k_keeps_the_k_most_probable() -> None:
    weights = probabilities(LOGITS, SamplingParams(temperature=1.0, top_k=2))
    assert set(np.flatnonzero(weights)) == {1, 2}
    assert weights.sum() == pytest.approx(1.0)


def test_top_p_keeps_the_fewest_that_reach_p() -> None:
    exact = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert exact[1] < 0.7 < exact[1] + exact[2]
    assert set(np.flatnonzero(probabilities(LOGITS, SamplingParams(temperature=1.0, top_p=0.7)))) == {1, 2}


def test_top_p_keeps_at_least_one() -> None:
    assert set(np.flatnonzero(probabilities(LOGITS, SamplingParams(temperature=1.0, top_p=1e-9)))) == {1}


def test_repetition_penalty_turns_the_choice_away_from_what_was_said() -> None:
    params = SamplingParams(repetition_penalty=2.0)
    assert sample(LOGITS, params, position=1, history=[1]) == 2
    assert sample(LOGITS, params, position=1, history=[]) == 1
    assert LOGITS[1] == 3.0  # the caller's logits are left alone


def test_penalty_counts_a_repeated_token_once() -> None:
    params = SamplingParams(repetition_penalty=1.4)
    assert sample(LOGITS, params, position=1, history=[1, 1, 1, 1]) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        SamplingParams(**{field: value})
