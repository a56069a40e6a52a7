"""Thoughts and words of an answer, whatever the pieces in which it comes."""

from __future__ import annotations

import pytest

from gridnode_dashboard.reasoning import ReasoningSplit


def split(text: str, size: int) -> tuple[str, str]:
    reasoning = ReasoningSplit()
    pieces = [reasoning.push(text[start : start + size]) for start in range(0, len(text), size)]
    pieces.append(reasoning.flush())
    return "".join(thought for thought, _ in pieces), "".join(said for _, said in pieces)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("Paris.", "", "Paris."),
        ("<think>\nFrance </ </thin?</think>\n\nParis <think>.", "\nFrance </ </thin?", "Paris <think>."),
        ("\n<think></think>Yes", "", "Yes"),
        ("<think>cut in the </thi", "cut in the </thi", ""),
        ("<thinner> is no tag", "", "<thinner> is no tag"),
        ("<th", "", "<th"),
        ("  x", "", "  x"),
    ],
)
def test_thoughts_end_with_their_tag(text: str, thought: str, said: str, size: int) -> None:
    assert split(text, size) == (thought, said)
