"""Prompts as completions and embeddings take them: texts or token ids, one or several."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gridnode.control.answer_schema import MAX_PROMPT_CHARACTERS, TokenId
from gridnode.control.openai.content import Text
from gridnode.control.openai.errors import BadField

TokenIds = tuple[TokenId, ...]
Prompts = Text | Annotated[tuple[TokenId | str | TokenIds, ...], Meta(max_length=MAX_PROMPT_CHARACTERS)]
"""One text, several texts, one list of token ids, or several."""


def split_prompts(given: Prompts, *, param: str) -> list[str | TokenIds]:
    """Return every single prompt.

    Raises:
        BadField: there is none, or one is empty.
    """
    found: list[str | TokenIds]
    if isinstance(given, str):
        found = [given]
    elif given and all(isinstance(item, int) for item in given):
        found = [tuple(item for item in given if isinstance(item, int))]
    else:
        found = [item for item in given if not isinstance(item, int)]
        if len(found) != len(given):
            raise BadField(f"'{param}' mixes token ids with prompts", param=param)
    if not found or not all(found):
        raise BadField(f"'{param}' is empty: give texts or token ids", param=param)
    return found
