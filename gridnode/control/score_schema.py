"""How probable texts are: what is asked of a node, and how it answers, in JSON.

Fields are added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from gridnode.control.answer_schema import MAX_PROMPT_CHARACTERS
from gridnode.core.route_wishes import ANYWHERE, RouteWishes

# A request is answered as a whole: who has more texts sends several, and gets the first answers sooner.
MAX_SCORED_TEXTS = 256
# Each is a few tokens more for every text.
MAX_SCORED_ANSWERS = 16

ScoredText = Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """Asks how probable the model finds texts, or answers to them."""

    texts: Annotated[tuple[ScoredText, ...], Meta(min_length=1, max_length=MAX_SCORED_TEXTS)]
    answers: Annotated[tuple[ScoredText, ...], Meta(max_length=MAX_SCORED_ANSWERS)] = ()
    """Possible answers to each text; none asks for the texts themselves."""

    raw: bool = False
    """With `answers`: put them right behind the text, instead of asking it by the chat template."""

    model: Annotated[str, Meta(max_length=512)] = ""
    routing: RouteWishes = ANYWHERE
    """Which nodes may compute the scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScore:
    """How probable one answer is."""

    answer: str
    log_likelihood: float
    """Natural logarithm of the probability of all of its tokens behind the text."""

    probability: float
    """Among the given answers: they add up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """How probable one text is, or the answers to it."""

    log_likelihood: float
    """Of the text, or of its most probable answer: the sum over `num_tokens` tokens."""

    num_tokens: int
    """Tokens that were judged: not the first of a text, unless the model begins texts with one of its own."""

    answers: tuple[AnswerScore, ...] = ()
    """In the order in which they were given."""

    problem: str = ""
    """Why this text has no score; the others have theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Answer to `ScoreRequest`."""

    model: str
    scores: tuple[TextScore, ...]
    """One for each text, in their order."""
