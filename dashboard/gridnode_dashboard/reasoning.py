"""Telling what a model thinks from what it says: `<think>` at the beginning of an answer. Pure."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


class ReasoningSplit:
    """Splits the pieces of one answer as they come; a tag may be spread over several."""

    def __init__(self) -> None:
        self.is_thinking = False
        """Whether the answer is between the tags now."""

        self._is_decided = False
        self._skips_space = False
        self._held = ""

    def push(self, piece: str) -> tuple[str, str]:
        """Return what `piece` adds to the thoughts and to the words."""
        self._held += piece
        if not self._is_decided:
            begun = self._held.lstrip()
            if OPEN.startswith(begun[: len(OPEN)]) and len(begun) < len(OPEN):
                return "", ""
            self._is_decided = True
            if begun.startswith(OPEN):
                self.is_thinking = True
                self._held = begun.removeprefix(OPEN)
        if not self.is_thinking:
            return "", self._words(self.flush()[1])
        thought, tag, rest = self._held.partition(CLOSE)
        if tag:
            self.is_thinking, self._skips_space, self._held = False, True, ""
            return thought, self._words(rest)
        held = _length_of_begun_tag(thought)
        self._held = thought[len(thought) - held :]
        return thought[: len(thought) - held], ""

    def _words(self, text: str) -> str:
        """Return `text` without the empty lines between thoughts and words."""
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        return text

    def flush(self) -> tuple[str, str]:
        """Return what was held back because it could have been the beginning of a tag."""
        held, self._held = self._held, ""
        return (held, "") if self.is_thinking else ("", held)


def _length_of_begun_tag(text: str) -> int:
    """Return how many characters at the end of `text` could begin the closing tag."""
    return next((size for size in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:size])), 0)
