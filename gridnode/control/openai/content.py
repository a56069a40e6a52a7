"""The content of messages: text, or parts of text. Models of this swarm read nothing else."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import MAX_MESSAGES, MAX_PROMPT_CHARACTERS
from gridnode.control.openai.errors import BadField

Text = Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]
_TEXT_PARTS = ("text", "input_text", "output_text")


class ContentPart(msgspec.Struct, kw_only=True, frozen=True):
    """One part of a message."""

    type: Annotated[str, Meta(max_length=64)]
    """`text` (in responses `input_text`, `output_text`) or `refusal`; images, sound, files are refused."""

    text: Text | None = None
    refusal: Text | None = None


Content = Text | Annotated[tuple[ContentPart, ...], Meta(max_length=MAX_MESSAGES)]


def content_text(content: Content | None, *, param: str) -> str:
    """Return `content` as one text; parts stand on lines of their own.

    Raises:
        BadField: a part is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_part_text(part, f"{param}[{number}]") for number, part in enumerate(content))


def _part_text(part: ContentPart, param: str) -> str:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in (*_TEXT_PARTS, "refusal"):
        raise BadField(
            f"the part {param} of type {part.type!r} is refused: the models of this swarm read text only",
            param=param,
        )
    if text is None:
        raise BadField(f"the part {param} has no text", param=param)
    return text
