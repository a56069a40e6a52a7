"""Conversations: from Anthropic's blocks to the turns that chat templates know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from gridnode.control.answer_schema import ChatMessage, ToolCall
from gridnode.control.anthropic.requests import Block, Content, InputMessage
from gridnode.errors import BadInput

# Other models' thoughts: they are not a part of the conversation.
_THOUGHTS = ("thinking", "redacted_thinking")


def chat_messages(system: Content | None, messages: Iterable[InputMessage]) -> tuple[ChatMessage, ...]:
    """Return the turns of a conversation.

    Raises:
        BadInput: a block is not text, a call or a result; or the last turn is the assistant's own.
    """
    turns = [ChatMessage(role="system", content=content_text(system))] if system else []
    names: dict[str, str] = {}
    for message in messages:
        if isinstance(message.content, str):
            turns.append(ChatMessage(role=message.role, content=message.content))
        elif message.role == "assistant":
            turn = _assistant_turn(message.content)
            names |= {call.id: call.name for call in turn.tool_calls}
            turns.append(turn)
        else:
            turns.extend(_user_turns(message.role, message.content, names))
    merged = tuple(_merged(turns))
    if merged and merged[-1].role == "assistant":
        raise BadInput("the last message is the assistant's: beginnings of answers are not continued")
    return merged


def content_text(content: Content | None) -> str:
    """Return content that must be text.

    Raises:
        BadInput: a block is something else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_block_text(block) for block in content)


def _block_text(block: Block) -> str:
    if block.type != "text":
        raise BadInput(f"a block of type {block.type!r} is refused here: the models of this swarm read text")
    return block.text


def _assistant_turn(blocks: Iterable[Block]) -> ChatMessage:
    said = tuple(block for block in blocks if block.type not in (*_THOUGHTS, "tool_use"))
    calls = tuple(
        ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))
        for block in blocks
        if block.type == "tool_use"
    )
    return ChatMessage(role="assistant", content=content_text(said), tool_calls=calls)


def _user_turns(role: str, blocks: Iterable[Block], names: Mapping[str, str]) -> Iterator[ChatMessage]:
    for block in blocks:
        if block.type == "tool_result":
            text = content_text(block.content)
            yield ChatMessage(
                role="tool",
                content=f"Error: {text}" if block.is_error else text,
                tool_call_id=block.tool_use_id,
                name=names.get(block.tool_use_id, ""),
            )
        else:
            yield ChatMessage(role=role, content=_block_text(block))


def _merged(turns: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
    """Yield the turns, with neighbours of one speaker as one turn: many templates want them to alternate."""
    last: ChatMessage | None = None
    for turn in turns:
        if last and last.role == turn.role != "tool" and not last.tool_calls:
            last = replace(turn, content="\n".join(text for text in (last.content, turn.content) if text))
            continue
        if last:
            yield last
        last = turn
    if last:
        yield last
