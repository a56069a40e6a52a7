"""Tokens of an answer, counted as OpenAI counts them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gridnode.control.answer_schema import Finished


class CompletionDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What became of tokens that were proposed before they were chosen."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a prompt and its answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionDetails | msgspec.UnsetType = msgspec.UNSET


def usage_of(finished: Sequence[Finished], *, choices_per_prompt: int) -> Usage:
    """Return the tokens of all answers; a prompt with several answers is counted once."""
    prompt_tokens = sum(end.prompt_tokens for end in finished[::choices_per_prompt])
    completion_tokens = sum(end.completion_tokens for end in finished)
    accepted = sum(end.accepted_draft_tokens for end in finished)
    proposed = sum(end.draft_tokens for end in finished)
    details = CompletionDetails(
        accepted_prediction_tokens=accepted, rejected_prediction_tokens=proposed - accepted
    )
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        completion_tokens_details=details if proposed else msgspec.UNSET,
    )
