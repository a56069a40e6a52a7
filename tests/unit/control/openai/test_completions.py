"""`POST /v1/completions`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from door_calls import call, stream_data
from fake_node import HOP, FakeNode

from gridnode.control.answer_schema import ChosenLogprob, Delta, Finished, Logprob, Started


def complete(node: FakeNode, **fields: Any) -> httpx.Response:
    return call(node, "POST", "/v1/completions", {"model": "tiny", "prompt": "The capital", **fields})


def test_a_text_is_continued() -> None:
    node = FakeNode()
    body = complete(node).json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "Paris.", "finish_reason": "stop", "logprobs": None}]
    assert body["usage"]["total_tokens"] == 8
    assert node.requests[0].prompt == "The capital"
    assert node.requests[0].max_tokens == 16  # OpenAI's own default


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [("a", ())]),
        (["a", "b"], [("a", ()), ("b", ())]),
        ([1, 2], [("", (1, 2))]),
        ([[1, 2], [3]], [("", (1, 2)), ("", (3,))]),
    ],
)
def test_prompts_are_texts_or_tokens(prompt: object, expected: list[object]) -> None:
    node = FakeNode()
    assert complete(node, prompt=prompt).status_code == 200
    assert [(request.prompt, request.token_ids) for request in node.requests] == expected


def test_choices_of_a_prompt_stand_together() -> None:
    node = FakeNode()
    body = complete(node, prompt=["a", "b"], n=2, seed=5).json()
    asked = sorted((request.prompt, request.sampling.seed) for request in node.requests)
    assert asked == [("a", 5), ("a", 6), ("b", 5), ("b", 6)]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}


def test_a_stream_ends_with_its_reason_and_usage() -> None:
    response = complete(FakeNode(), stream=True, stream_options={"include_usage": True})
    *texts, end, usage = stream_data(response)
    assert [chunk["choices"][0]["text"] for chunk in texts] == ["Par", "is", "."]
    assert end["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["total_tokens"] == 8
    assert usage["gridnode"]["reroutes"] == 0


def test_logprobs_are_lists_with_offsets() -> None:
    def said(text: str) -> Delta:
        chosen = Logprob(token_id=1, text=text, logprob=-0.5)
        other = Logprob(token_id=2, text="x", logprob=-1.0)
        return Delta(text=text, token_ids=(1,), logprobs=(ChosenLogprob(chosen=chosen, top=(chosen, other)),))

    script = (
        Started(model="tiny", route=(HOP,), prompt_tokens=5, context_tokens=64),
        said("Par"),
        said("is"),
        Finished(
            reason="length",
            prompt_tokens=5,
            completion_tokens=2,
            ttft_s=0.1,
            decode_tokens_per_s=1.0,
            route=(HOP,),
        ),
    )
    whole = complete(FakeNode(script=script), logprobs=2).json()["choices"][0]
    assert whole["finish_reason"] == "length"
    assert whole["logprobs"] == {
        "tokens": ["Par", "is"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"Par": -0.5, "x": -1.0}, {"is": -0.5, "x": -1.0}],
        "text_offset": [0, 3],
    }
    second = stream_data(complete(FakeNode(script=script), logprobs=2, stream=True))[1]
    assert second["choices"][0]["logprobs"]["text_offset"] == [3]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": []}, "prompt", "empty"),
        ({"prompt": ["a", ""]}, "prompt", "empty"),
        ({"prompt": [1, "a"]}, "prompt", "mixes"),
        ({"prompt": ["a"] * 5, "n": 4}, "prompt", "at most 16"),
        ({"echo": True}, "echo", "not repeated"),
        ({"suffix": "end"}, "suffix", "never inserted"),
        ({"best_of": 3}, "best_of", "use 'n'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    node = FakeNode()
    response = complete(node, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert words in response.json()["error"]["message"]
    assert node.requests == []


def test_fields_that_change_nothing_may_be_sent() -> None:
    assert complete(FakeNode(), echo=False, suffix=None, best_of=1, user="me").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [{"prompt": [2**32]}, {"prompt": [-1]}, {"prompt": [[1, 2**31]]}, {"top_k": 10**30}, {"top_k": -1}],
)
def test_numbers_beyond_every_vocabulary_are_refused(fields: dict[str, Any]) -> None:
    node = FakeNode()
    assert complete(node, **fields).status_code == 400
    assert not node.requests
