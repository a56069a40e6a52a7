"""`POST /v1/embeddings`: texts as vectors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from gridnode.control.answer_schema import MAX_EMBEDDED_TEXTS, Embedded, EmbedRequest
from gridnode.control.openai.errors import BadField
from gridnode.control.openai.fields import FieldRules, Refused
from gridnode.control.openai.prompts import Prompts, split_prompts
from gridnode.control.openai.sampling_fields import HARMLESS

Encoding = Literal["float", "base64"]


class EmbeddingRequest(msgspec.Struct, kw_only=True, frozen=True):
    """Body of `POST /v1/embeddings`."""

    input: Prompts
    """One text, several texts, one list of token ids, or several."""

    model: Annotated[str, Meta(max_length=512)] = ""
    encoding_format: Encoding = "float"
    """`base64` is that of little-endian float32: smaller and faster to read."""


EMBEDDING_FIELDS = FieldRules(
    record=EmbeddingRequest,
    ignored=HARMLESS,
    refused={"dimensions": Refused("vectors have the hidden size of the model and are not shortened")},
)


class EmbeddingObject(msgspec.Struct, frozen=True, kw_only=True):
    """One vector, of length 1."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/embeddings`."""

    model: str
    data: list[EmbeddingObject]
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


def embed_request(wanted: EmbeddingRequest) -> EmbedRequest:
    """Return what the node is asked.

    Raises:
        BadField: a text is empty, or there are too many.
    """
    prompts = split_prompts(wanted.input, param="input")
    if len(prompts) > MAX_EMBEDDED_TEXTS:
        raise BadField(
            f"{len(prompts)} texts are too many for one request: at most {MAX_EMBEDDED_TEXTS}", param="input"
        )
    texts = tuple(prompt for prompt in prompts if isinstance(prompt, str))
    token_ids = tuple(prompt for prompt in prompts if not isinstance(prompt, str))
    if texts and token_ids:
        raise BadField("'input' mixes texts with lists of token ids", param="input")
    return EmbedRequest(model=wanted.model, texts=texts, token_ids=token_ids)


def embedding_list(found: Embedded, encoding: Encoding) -> EmbeddingList:
    """Return the vectors in the words of OpenAI."""
    return EmbeddingList(
        model=found.model,
        data=[
            EmbeddingObject(index=index, embedding=_encode(vector, encoding))
            for index, vector in enumerate(found.vectors)
        ],
        usage=EmbeddingUsage(prompt_tokens=found.prompt_tokens, total_tokens=found.prompt_tokens),
    )


def _encode(vector: Sequence[float], encoding: Encoding) -> list[float] | str:
    if encoding == "float":
        return list(vector)
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
