"""Answers that keep to a JSON schema: which tokens may come next, by the library llguidance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer

from gridnode.errors import BadInput

# A model that has nothing to say must not fill its answer with blanks: the schema allows a few between words.
_WHITESPACE = r"[ \n\t]{0,20}"


class JsonConstraint:
    """What may come next in one answer.

    Args:
        tokenizer: As `make_tokenizer` returns it.
        schema: A JSON schema.

    Raises:
        BadInput: the schema is not one, or uses what cannot be enforced; the text says what.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        try:
            grammar = LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_flexible": True, "whitespace_pattern": _WHITESPACE}
            )
        except ValueError as exc:
            raise BadInput(f"the JSON schema cannot be used: {exc}") from exc
        self._matcher = LLMatcher(tokenizer, grammar)
        self._check()

    def allowed(self, vocab_size: int) -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, `[vocab_size]`; tokens without a text never do."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        mask = np.zeros(vocab_size, dtype=np.bool_)
        known = np.unpackbits(bits, bitorder="little")[:vocab_size]
        mask[: known.size] = known
        return mask

    def accept(self, token_id: int) -> None:
        """Go on behind `token_id`, which must be allowed."""
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            text = self._matcher.get_error().strip().split("\n")[0]
            raise BadInput(f"the JSON schema cannot be used: {text[:300]}")


def make_tokenizer(tokenizer_json: str, stop_ids: frozenset[int]) -> LLTokenizer:
    """Return what constraints need to know of a tokenizer. Takes up to a second.

    Args:
        tokenizer_json: Content of `tokenizer.json`.
        stop_ids: Tokens that may end an answer once it is complete.
    """
    return LLTokenizer(tokenizer_json, eos_token=sorted(stop_ids) or None)
