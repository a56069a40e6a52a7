"""The parts of the demo that need no swarm."""

from __future__ import annotations

import pytest

from gridnode.cli.demonstration import split_blocks
from gridnode.core.spans import Span


@pytest.mark.parametrize(
    ("num_blocks", "num_nodes", "lengths"), [(30, 3, [10, 10, 10]), (32, 3, [10, 11, 11]), (2, 3, [1, 1])]
)
def test_blocks_are_shared_out_evenly(num_blocks: int, num_nodes: int, lengths: list[int]) -> None:
    spans = split_blocks(num_blocks, num_nodes)
    assert [len(span) for span in spans] == lengths
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert (spans[0].start, spans[-1]) == (0, Span(spans[-1].start, num_blocks))
