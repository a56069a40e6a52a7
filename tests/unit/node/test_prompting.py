from __future__ import annotations

import pytest
from tiny_models import BOS, make_tokenizer
from tokenizers.processors import TemplateProcessing

from gridnode.control.answer_schema import ChatMessage, GenerateRequest, ToolCall
from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput
from gridnode.node.prompting import prompt_tokens


def codec() -> TextCodec:
    """Return a codec that begins every text with a special token, as Llama's does."""
    tokenizer = make_tokenizer()
    tokenizer.post_processor = TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", BOS)])
    return TextCodec(tokenizer, chat_template=None, special_tokens={}, stop_ids=frozenset())


def test_text_behind_tokens_continues_them_and_begins_nothing() -> None:
    first = prompt_tokens(GenerateRequest(prompt="one"), codec())
    assert first[0] == BOS
    continued = prompt_tokens(GenerateRequest(token_ids=tuple(first), prompt=" two"), codec())
    assert continued == prompt_tokens(GenerateRequest(prompt="one two"), codec())


def test_tokens_alone_are_the_prompt() -> None:
    assert prompt_tokens(GenerateRequest(token_ids=(1, 2, 3)), codec()) == [1, 2, 3]


def test_a_conversation_stands_alone() -> None:
    hello = ChatMessage(role="user", content="hello")
    for request in (
        GenerateRequest(),
        GenerateRequest(messages=(hello,), prompt="x"),
        GenerateRequest(messages=(hello,), token_ids=(1,)),
    ):
        with pytest.raises(BadInput, match="either messages"):
            prompt_tokens(request, codec())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [("{", "Expecting"), ("[" * 5000, "too deeply"), ('"\\ud800"', "surrogates"), ("NaN", "NaN")],
)
def test_arguments_of_earlier_calls_that_nobody_can_read_are_refused(arguments: str, why: str) -> None:
    call = ToolCall(id="1", name="weather", arguments=arguments)
    said = ChatMessage(role="assistant", tool_calls=(call,))
    with pytest.raises(BadInput, match=f"arguments of the call of 'weather' are not JSON: .*{why}"):
        prompt_tokens(GenerateRequest(messages=(said,)), codec())
