"""How many draft tokens a lap shall carry: as many as pay, by what laps cost and brought so far. Pure.

A lap is one decode step through all hops. With k draft tokens it brings the accepted ones and one more token,
and costs more than one without. Where every draft is accepted with probability a, it brings
(1 - a^(k+1)) / (1 - a) tokens (Leviathan et al., arXiv:2211.17192).
"""

from __future__ import annotations

from dataclasses import dataclass

# What workers compute as one decode step: one token, and these.
MAX_DRAFT_TOKENS = 7
# What was seen counts less with every lap since: texts change, links and hops too.
_FORGETTING = 0.95
# Before anything was seen: two of three drafts are accepted; each costs an eighth of a lap.
_PRIOR_ACCEPTED, _PRIOR_PROPOSED = 2.0, 3.0
_PRIOR_SHARE = 0.125
_PRIOR_WEIGHT = 2.0
# Laps without drafts at first, for what one costs.
_PLAIN_LAPS = 2
# While drafts lose: laps without any, before some with few tell whether that has changed.
_MIN_PAUSE_LAPS = 16
_MAX_PAUSE_LAPS = 256
_TRIAL_TOKENS = 2
# One slow lap, or one draft that had to load something, is no reason to give up.
_FIRST_TRIAL_LAPS = 4
_TRIAL_LAPS = 2


@dataclass(slots=True)
class _LapCost:
    """Seconds of a lap as a line over its draft tokens: sums of a fit that forgets."""

    weight: float = 0.0
    drafts: float = 0.0
    seconds: float = 0.0
    drafts_squared: float = 0.0
    drafts_seconds: float = 0.0

    def add(self, num_drafts: int, seconds: float) -> None:
        self.weight = self.weight * _FORGETTING + 1.0
        self.drafts = self.drafts * _FORGETTING + num_drafts
        self.seconds = self.seconds * _FORGETTING + seconds
        self.drafts_squared = self.drafts_squared * _FORGETTING + num_drafts**2
        self.drafts_seconds = self.drafts_seconds * _FORGETTING + num_drafts * seconds

    def line(self) -> tuple[float, float]:
        """Return the seconds of a lap without drafts, and those that each draft adds."""
        mean_drafts, mean_s = self.drafts / self.weight, self.seconds / self.weight
        spread = self.drafts_squared - mean_drafts * self.drafts
        together = self.drafts_seconds - mean_drafts * self.seconds
        each_s = max((together + _PRIOR_WEIGHT * _PRIOR_SHARE * mean_s) / (spread + _PRIOR_WEIGHT), 0.0)
        return max(mean_s - each_s * mean_drafts, 0.05 * mean_s), each_s


class DraftLength:
    """Decides the number of draft tokens of one session, lap by lap; 0 switches drafts off for a while."""

    def __init__(self) -> None:
        self._accepted = _PRIOR_ACCEPTED
        self._proposed = _PRIOR_PROPOSED
        self._cost = _LapCost()
        self._draft_s = 0.0
        """Seconds that it takes to propose one token."""

        self._num_laps = 0
        self._trial_laps = _FIRST_TRIAL_LAPS
        self._pause_laps = 0
        self._next_pause_laps = _MIN_PAUSE_LAPS

    @property
    def acceptance_rate(self) -> float:
        """Share of draft tokens accepted lately, of those that were looked at."""
        return self._accepted / self._proposed

    def next(self) -> int:
        """Return how many draft tokens pay now. Call it once for every lap that could have some."""
        if self._num_laps < _PLAIN_LAPS:
            return 0
        if self._pause_laps:
            self._pause_laps -= 1
            return 0
        best = max(range(MAX_DRAFT_TOKENS + 1), key=self._tokens_per_s)
        if self._trial_laps:
            return best or _TRIAL_TOKENS
        if best:
            self._next_pause_laps = _MIN_PAUSE_LAPS
        else:
            self._pause_laps = self._next_pause_laps - 1
            self._next_pause_laps = min(2 * self._next_pause_laps, _MAX_PAUSE_LAPS)
            self._trial_laps = _TRIAL_LAPS
        return best

    def note(self, *, num_drafts: int, num_accepted: int, lap_s: float, draft_s: float = 0.0) -> None:
        """Learn from a lap.

        Args:
            lap_s: From sending its step to the answer.
            draft_s: What proposing the drafts took before.
        """
        self._num_laps += 1
        self._cost.add(num_drafts, lap_s)
        if num_drafts:
            self._trial_laps = max(self._trial_laps - 1, 0)
            # Behind the first one that was refused nothing was looked at.
            self._proposed = self._proposed * _FORGETTING + min(num_accepted + 1, num_drafts)
            self._accepted = self._accepted * _FORGETTING + num_accepted
            self._draft_s += (draft_s / num_drafts - self._draft_s) * (0.3 if self._draft_s else 1.0)

    def _tokens_per_s(self, num_drafts: int) -> float:
        plain_s, each_s = self._cost.line()
        tokens = sum(self.acceptance_rate**i for i in range(num_drafts + 1))
        return tokens / (plain_s + num_drafts * (each_s + self._draft_s))
