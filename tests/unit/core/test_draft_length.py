"""Simulated sessions: laps with a given cost, drafts accepted with a given probability."""

from dataclasses import dataclass, field

import numpy as np

from gridnode.core.draft_length import MAX_DRAFT_TOKENS, DraftLength


@dataclass
class Simulation:
    """A session through hops; tells what came of it."""

    lap_s: float
    each_s: float
    draft_s: float = 0.0
    length: DraftLength = field(default_factory=DraftLength)
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    elapsed_s: float = 0.0
    lengths: list[int] = field(default_factory=list)

    def run(self, num_tokens: int, acceptance: float) -> float:
        """Return the tokens per second of the next `num_tokens`."""
        began_s, tokens = self.elapsed_s, 0
        while tokens < num_tokens:
            num_drafts = self.length.next()
            refused = self.chance.random(num_drafts) >= acceptance
            num_accepted = int(np.argmax(refused)) if refused.any() else num_drafts
            lap_s = (self.lap_s + num_drafts * self.each_s) * self.chance.uniform(0.8, 1.3)
            draft_s = num_drafts * self.draft_s
            self.length.note(num_drafts=num_drafts, num_accepted=num_accepted, lap_s=lap_s, draft_s=draft_s)
            self.lengths.append(num_drafts)
            self.elapsed_s += lap_s + draft_s
            tokens += num_accepted + 1
        return tokens / (self.elapsed_s - began_s)


def test_good_drafts_over_slow_links_are_as_many_as_may_be() -> None:
    session = Simulation(lap_s=0.1, each_s=0.002)
    assert session.run(500, acceptance=0.9) > 3 / 0.1
    assert np.median(session.lengths) == MAX_DRAFT_TOKENS


def test_drafts_that_lose_are_switched_off_and_tried_ever_more_rarely() -> None:
    session = Simulation(lap_s=0.02, each_s=0.01)
    tokens_per_s = session.run(2000, acceptance=0.05)
    assert tokens_per_s > 0.93 / 0.021  # 1.05 is the mean of the noise
    later = session.lengths[500:]
    assert 0 < sum(1 for num_drafts in later if num_drafts) < len(later) / 50


def test_a_slow_draft_model_loses_where_the_hops_are_quick() -> None:
    session = Simulation(lap_s=0.02, each_s=0.001, draft_s=0.03)
    session.run(1000, acceptance=0.8)
    assert np.mean(session.lengths[100:]) < 0.2
    far = Simulation(lap_s=0.4, each_s=0.001, draft_s=0.03)
    far.run(1000, acceptance=0.8)
    assert np.median(far.lengths[100:]) >= 4


def test_drafts_come_back_when_they_pay_again() -> None:
    session = Simulation(lap_s=0.05, each_s=0.004)
    session.run(400, acceptance=0.02)
    assert not session.lengths[-1]
    session.run(2000, acceptance=0.95)
    assert np.median(session.lengths[-50:]) >= 5


def test_the_first_laps_have_no_drafts_and_tell_what_one_costs() -> None:
    session = Simulation(lap_s=0.05, each_s=0.0)
    session.run(20, acceptance=1.0)
    assert session.lengths[:2] == [0, 0]
    assert session.lengths[2] > 0
