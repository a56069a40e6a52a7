"""Texts as vectors, in Ollama's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import Embedded, EmbedRequest
from gridnode.control.door_request import decode_fields
from gridnode.control.ollama.names import swarm_name


class EmbedTexts(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `/api/embed`. Texts that are too long are refused, whatever `truncate` says."""

    model: str
    input: str | tuple[str, ...]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    """Keep so many numbers of each vector, and make its length 1 again."""


class EmbedPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `/api/embeddings`, which is older."""

    model: str
    prompt: str


class TextVectors(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `/api/embed`. Durations are nanoseconds."""

    model: str
    embeddings: tuple[tuple[float, ...], ...]
    total_duration: int
    prompt_eval_count: int
    load_duration: int = 0


class PromptVector(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `/api/embeddings`."""

    embedding: tuple[float, ...]


def embed_request(model: str, texts: Sequence[str]) -> EmbedRequest:
    """Return what is asked of the node.

    Raises:
        BadInput: a value is outside its limits.
    """
    return decode_fields({"model": swarm_name(model), "texts": texts}, EmbedRequest)


def text_vectors(wanted: EmbedTexts, embedded: Embedded, *, duration_s: float) -> TextVectors:
    """Return the answer of `/api/embed`."""
    return TextVectors(
        model=wanted.model,
        embeddings=tuple(shortened(vector, wanted.dimensions) for vector in embedded.vectors),
        total_duration=round(duration_s * 1e9),
        prompt_eval_count=embedded.prompt_tokens,
    )


def shortened(vector: tuple[float, ...], dimensions: int | None) -> tuple[float, ...]:
    """Return the first numbers of `vector`, at length 1."""
    if dimensions is None or dimensions >= len(vector):
        return vector
    kept = vector[:dimensions]
    length = math.hypot(*kept) or 1.0
    return tuple(number / length for number in kept)
