"""Answers as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fake_node import FakeNode

from gridnode.control.answer_schema import AnswerEvent, GenerateRequest
from gridnode.control.collected_answer import collect_answer
from gridnode.errors import ConnectionClosed, PeerLost

REQUEST = GenerateRequest(prompt="x")


def test_the_pieces_become_one_text() -> None:
    answer = asyncio.run(collect_answer(FakeNode().generate(REQUEST)))
    assert answer.text == "Paris."
    assert answer.started.model == "tiny"
    assert answer.finished.completion_tokens == 3


def test_an_error_in_the_middle_is_raised() -> None:
    node = FakeNode(error=PeerLost("gone"), fail_after=1)
    with pytest.raises(PeerLost):
        asyncio.run(collect_answer(node.generate(REQUEST)))
    assert node.num_running == 0


def test_an_answer_without_an_end_is_an_error() -> None:
    async def nothing() -> AsyncGenerator[AnswerEvent, None]:
        return
        yield

    with pytest.raises(ConnectionClosed):
        asyncio.run(collect_answer(nothing()))
