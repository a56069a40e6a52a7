import numpy as np
import pytest

from gridnode.core.sampling import (
    PENALTY_WINDOW_TOKENS,
    SamplingParams,
    exponentials,
    probabilities,
    sample,
)

LOGITS = np.array([1.0, 3.0, 2.0, -1.0, 0.5], dtype=np.float32)


def test_the_default_takes_the_most_probable_token() -> None:
    assert sample(LOGITS, SamplingParams(), position=7) == 1


def test_the_choice_depends_on_seed_and_position_alone() -> None:
    params = SamplingParams(temperature=1.0, seed=3)
    chosen = [sample(LOGITS, params, position=p) for p in range(200)]
    assert chosen == [sample(LOGITS, params, position=p) for p in range(200)]
    assert chosen != [sample(LOGITS, SamplingParams(temperature=1.0, seed=4), position=p) for p in range(200)]


def test_random_numbers_are_exponential_along_tokens_and_along_positions() -> None:
    along_tokens = exponentials(1, 0, 20_000)
    along_positions = np.array([exponentials(1, p, 3)[2] for p in range(20_000)])
    for numbers in (along_tokens, along_positions):
        counts, _ = np.histogram(np.exp(-numbers), bins=20, range=(0.0, 1.0))
        # chi-squared with 19 degrees of freedom: 43.8 is the 0.1 % point
        assert ((counts - 1000) ** 2 / 1000).sum() < 43.8


def test_random_numbers_are_those_of_every_version() -> None:
    """An answer goes on with the same tokens on another node only if the numbers are the same there."""
    assert exponentials(5, 7, 3) == pytest.approx([1.719174815, 0.326581211, 0.150618229], abs=1e-9)


def test_models_that_nearly_agree_mostly_choose_the_same_token() -> None:
    """Choices that share their random numbers differ with at most 2 d / (1 + d), d the total variation."""
    params = SamplingParams(temperature=1.0, seed=2)
    rng = np.random.default_rng(0)
    draft = LOGITS + rng.normal(size=LOGITS.size).astype(np.float32) * 0.3
    distance = np.abs(probabilities(draft, params) - probabilities(LOGITS, params)).sum() / 2
    assert 0.02 < distance < 0.2
    pairs = [(sample(LOGITS, params, position=p), sample(draft, params, position=p)) for p in range(5_000)]
    differing = np.mean([first != second for first, second in pairs])
    assert 0 < differing < 2 * distance / (1 + distance) + 0.02


def test_a_penalty_looks_at_the_last_tokens_only() -> None:
    params = SamplingParams(repetition_penalty=2.0)
    assert sample(LOGITS, params, position=1, history=[1] + [3] * PENALTY_WINDOW_TOKENS) == 1
    assert sample(LOGITS, params, position=1, history=[1] + [3] * (PENALTY_WINDOW_TOKENS - 1)) == 2


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


def test_top_p_keeps_of_many_what_sorting_all_of_them_would() -> None:
    logits = np.random.default_rng(3).normal(size=5000).astype(np.float32) * 3
    for top_p in (0.3, 0.9, 0.9999, 1 - 1e-12):
        exact = probabilities(logits, SamplingParams(temperature=1.0))
        order = np.argsort(-exact, kind="stable")
        count = int(np.searchsorted(np.cumsum(exact[order]), top_p)) + 1
        found = probabilities(logits, SamplingParams(temperature=1.0, top_p=top_p))
        assert set(np.flatnonzero(found)) == set(order[:count])


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
