"""What clients of Petals' chat send: numbers may come as text, from forms."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import MAX_PROMPT_CHARACTERS, MAX_STOP_TEXTS
from gridnode.core.sampling import SamplingParams

Text = Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
Positive = Annotated[int, Meta(ge=1)]


class SamplingFields(msgspec.Struct, kw_only=True, frozen=True):
    """How to choose tokens, and how many."""

    inputs: Text | None = None
    do_sample: bool = False
    """False takes the most probable token, whatever the other fields say."""

    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100.0)] | None = None
    max_length: Positive | None = None
    """Tokens at most, those before the answer included."""

    max_new_tokens: Positive | None = None

    def sampling(self, *, seed: int) -> SamplingParams:
        """Return how to choose tokens."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return SamplingParams(
            temperature=temperature if self.do_sample else 0.0,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            seed=seed if self.do_sample else 0,
        )


class FormRequest(SamplingFields, kw_only=True, frozen=True):
    """Values of `POST /api/v1/generate`."""

    model: Annotated[str, Meta(max_length=512)] = ""


class OpenSession(msgspec.Struct, kw_only=True, frozen=True, tag="open_inference_session"):
    """First message of a socket."""

    max_length: Positive
    """Tokens of the whole session."""

    model: Annotated[str, Meta(max_length=512)] = ""


class Generate(SamplingFields, kw_only=True, frozen=True, tag="generate"):
    """Every later message."""

    stop_sequence: StopText | None = None
    """Go on until the model says this, which is told too; without it, one reply is all."""

    extra_stop_sequences: Annotated[tuple[StopText, ...], Meta(max_length=MAX_STOP_TEXTS - 1)] | None = None
    """More texts that end a turn. In what the model remembers, `stop_sequence` stands in their place."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Every text that ends the turn."""
        return ((self.stop_sequence,) if self.stop_sequence else ()) + (self.extra_stop_sequences or ())


class Opened(msgspec.Struct, kw_only=True, frozen=True):
    """Answer to the first message."""

    ok: Literal[True] = True


class Reply(msgspec.Struct, kw_only=True, frozen=True):
    """A piece of an answer."""

    outputs: str
    stop: bool
    """Whether the turn is over."""

    token_count: int
    """Tokens since the last reply."""

    ok: Literal[True] = True


class FormAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """Answer of `POST /api/v1/generate`."""

    outputs: str
    ok: Literal[True] = True


class Trouble(msgspec.Struct, kw_only=True, frozen=True):
    """What went wrong; the last message of a socket."""

    traceback: str
    """One sentence for people. Its first words are those that Petals' clients look for."""

    ok: Literal[False] = False


def new_seed() -> int:
    """Return the seed of an answer: there is none in these words."""
    return secrets.randbits(63)
