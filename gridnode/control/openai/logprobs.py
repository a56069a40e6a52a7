"""How probable tokens were, in the two ways in which OpenAI tells it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gridnode.control.answer_schema import ChosenLogprob, Logprob


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """A token that could have been chosen."""

    token: str
    bytes: list[int] | None
    """UTF-8; null for a part of a character."""

    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was chosen."""

    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Of chat completions."""

    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Of completions: lists with one item for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    """Where each token begins in the answer, in characters."""


def token_logprobs(
    chosen: Sequence[ChosenLogprob], *, of_half_character: list[int] | None = None
) -> list[TokenLogprob]:
    """Return one record for each chosen token.

    Args:
        of_half_character: The bytes of a token that is a part of a character: nobody knows them here.
    """

    def utf8(logprob: Logprob) -> list[int] | None:
        is_half = "\N{REPLACEMENT CHARACTER}" in logprob.text
        return of_half_character if is_half else list(logprob.text.encode())

    return [
        TokenLogprob(
            token=item.chosen.text,
            bytes=utf8(item.chosen),
            logprob=item.chosen.logprob,
            top_logprobs=[
                TopLogprob(token=top.text, bytes=utf8(top), logprob=top.logprob) for top in item.top
            ],
        )
        for item in chosen
    ]


def text_logprobs(chosen: Sequence[ChosenLogprob], *, offset: int) -> TextLogprobs:
    """Return the lists for tokens that begin `offset` characters behind the start of the answer."""
    offsets = []
    for item in chosen:
        offsets.append(offset)
        offset += len(item.chosen.text)
    return TextLogprobs(
        tokens=[item.chosen.text for item in chosen],
        token_logprobs=[item.chosen.logprob for item in chosen],
        top_logprobs=[{top.text: top.logprob for top in (item.chosen, *item.top)} for item in chosen],
        text_offset=offsets,
    )
