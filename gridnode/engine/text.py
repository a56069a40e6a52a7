"""The text side of a model, without torch: tokens, chat templates, text that grows token by token.

Reads the files that `transformers` writes: `tokenizer.json`, `tokenizer_config.json`,
`chat_template.jinja`, `generation_config.json`, `config.json`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from gridnode.engine.chat_template import ChatTemplate
from gridnode.engine.grammar import JsonConstraint, make_tokenizer
from gridnode.engine.template_process import TemplateProcess
from gridnode.errors import BadCheckpoint, BadInput, reason

MAX_PROMPTS_AT_ONCE = 2
"""Of one model: a template that is slow, or wants much memory, must leave threads and memory to others."""


class StreamDecoder:
    """Turns tokens into text one by one; holds incomplete characters back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes; empty while a character is incomplete."""
        try:
            return self._stream.step(self._tokenizer, token_id) or ""
        except Exception:  # noqa: BLE001 - tokenizers raises nothing else
            # A byte that completes no character changes how some decoders read those before it, which were
            # told already. What was told stays; the text goes on with this token.
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token_id) or ""


class TextCodec:
    """Tokenizer and chat template of one model. Make one with `load_text_codec`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        chat_template: str | None,
        special_tokens: Mapping[str, str],
        stop_ids: frozenset[int],
        is_foreign: bool = False,
    ) -> None:
        self.stop_ids = stop_ids
        """Token ids that end an answer."""

        self.room = asyncio.Semaphore(MAX_PROMPTS_AT_ONCE)
        """Held by whoever makes a prompt in a thread of the event loop that answers."""

        self._tokenizer = tokenizer
        self._special_tokens = special_tokens
        self._chat_template = chat_template
        self._is_foreign = is_foreign

    @cached_property
    def vocab_size(self) -> int:
        """Tokens that there are; ids are below it."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def vocabulary_hash(self) -> str:
        """Equal for two models whose tokens have the same ids. Takes a moment, the first time."""
        tokens = sorted(self._tokenizer.get_vocab(with_added_tokens=True).items(), key=itemgetter(1))
        return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be put into words."""
        return self._chat_template is not None

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, with the special tokens that begin a text of this model."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=True).ids
        return ids

    def encode_continuation(self, text: str) -> list[int]:
        """Return the token ids of `text` behind other tokens: nothing begins here."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """Return the prompt that asks the model for the next turn; see `ChatTemplate.render`.

        Raises:
            BadInput: the model has no usable chat template, or the template refuses these messages.
        """
        return self._template.render(messages, tools)

    @cached_property
    def _template(self) -> ChatTemplate | TemplateProcess:
        """The compiled template; only when it is needed, because prompts can do without."""
        if self._chat_template is None:
            raise BadInput("this model has no chat template; give a prompt instead of messages (run --raw)")
        kind = TemplateProcess if self._is_foreign else ChatTemplate
        return kind(self._chat_template, special_tokens=self._special_tokens)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Return the token ids of the prompt that asks the model for the next turn.

        Raises:
            BadInput: as `render_chat`.
        """
        text = self.render_chat(messages, tools)
        # The template writes the special tokens itself.
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of `token_ids` without special tokens."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def stream_decoder(self) -> StreamDecoder:
        """Return a decoder for one answer."""
        return StreamDecoder(self._tokenizer)

    def token_text(self, token_id: int) -> str:
        """Return the text of one token by itself; special tokens are shown."""
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=False)
        return text

    def json_constraint(self, schema: str) -> JsonConstraint:
        """Return what keeps one answer to `schema`. Takes up to a second, the first time.

        Raises:
            BadInput: the schema cannot be enforced.
        """
        return JsonConstraint(self._constraint_tokenizer, schema)

    @cached_property
    def _constraint_tokenizer(self) -> LLTokenizer:
        return make_tokenizer(self._tokenizer.to_str(), self.stop_ids)


def load_text_codec(directory: Path, *, is_foreign: bool = False) -> TextCodec:
    """Return the text side of the model whose tokenizer files lie in `directory`.

    Args:
        is_foreign: Whether a peer sent the files: its chat template then runs in a process of its own.

    Raises:
        BadCheckpoint: there is no readable `tokenizer.json`, or the files beside it are nonsense.
    """
    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:
        raise BadCheckpoint(f"cannot read the tokenizer {path}: {exc}") from exc
    # Some files carry the lengths that their model was trained with.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        settings = _read_json(directory / "tokenizer_config.json")
        special_tokens = {
            name: _token_text(value)
            for name, value in settings.items()
            if name.endswith("_token") and isinstance(value, str | dict)
        }
        return TextCodec(
            tokenizer,
            chat_template=_chat_template(directory, settings),
            special_tokens=special_tokens,
            stop_ids=_stop_ids(directory, tokenizer, special_tokens),
            is_foreign=is_foreign,
        )
    except (AttributeError, OSError, RecursionError, TypeError, ValueError) as exc:
        raise BadCheckpoint(f"the files beside the tokenizer {path} make no sense: {reason(exc)}") from exc


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise BadCheckpoint(f"cannot read {path}: {reason(exc)}") from exc
    return found if isinstance(found, dict) else {}


def _token_text(value: str | dict[str, Any]) -> str:
    """Return the text of a special token, which older files wrap in a record."""
    return value if isinstance(value, str) else str(value.get("content", ""))


def find_chat_template(directory: Path) -> str | None:
    """Return the source of the chat template in `directory`, or None.

    Raises:
        BadCheckpoint: the tokenizer's settings cannot be read.
    """
    return _chat_template(directory, _read_json(directory / "tokenizer_config.json"))


def _chat_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named templates: the default one is for chats
        named = {str(entry.get("name")): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _stop_ids(directory: Path, tokenizer: Tokenizer, special_tokens: Mapping[str, str]) -> frozenset[int]:
    """Return every id that the model's files name as an end of text."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _read_json(directory / name).get("eos_token_id")
        found.update([value] if isinstance(value, int) else value or [])
    eos = tokenizer.token_to_id(special_tokens.get("eos_token", ""))
    return frozenset(found if eos is None else found | {eos})
