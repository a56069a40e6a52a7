"""The fields that every kind of question has: which model, and how to choose its tokens."""

from __future__ import annotations

import secrets
from typing import Annotated

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import MAX_LOGIT_BIASES, MAX_STOP_TEXTS
from gridnode.control.openai.errors import BadField
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.sampling import SamplingParams

# Each choice is a session of its own and leases KV cache on every hop.
MAX_CHOICES = 16
# OpenAI allows a top_p of 0: the most probable token alone.
_SMALLEST_TOP_P = 1e-9
_SEEDS = 2**63

StopText = Annotated[str, Meta(min_length=1, max_length=256)]


class SamplingFields(msgspec.Struct, kw_only=True, frozen=True):
    """What OpenAI offers everywhere, and what other servers added to it."""

    model: Annotated[str, Meta(max_length=512)] = ""
    """Name of a model, or start of its manifest hash; empty for the only model of the swarm."""

    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 1.0
    """0 takes the most probable token."""

    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    """Not in OpenAI's API: keep the k most probable tokens; 0 keeps all."""

    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100.0)] = 1.0
    """Not in OpenAI's API."""

    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    """The same seed gives the same answer; without one the door draws one."""

    max_wait_s: Annotated[float, Meta(ge=0.0, le=3600.0)] | None = None
    """Not in OpenAI's API: how long to wait in line if the swarm has no room; see `patience`."""

    routing: RouteWishes = ANYWHERE
    """Not in OpenAI's API: which nodes may compute the answer."""

    stream: bool = False

    def sampling(self, choice: int, seed: int) -> SamplingParams:
        """Return how to choose the tokens of the choice number `choice`; the seeds of choices differ."""
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=max(self.top_p, _SMALLEST_TOP_P),
            repetition_penalty=self.repetition_penalty,
            seed=(seed + choice) % _SEEDS,
        )

    def first_seed(self) -> int:
        """Return the seed of the request; a random one if it has none."""
        return secrets.randbelow(_SEEDS) if self.seed is None else self.seed


class StreamOptions(msgspec.Struct, kw_only=True, frozen=True):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None
    """Send a last chunk with the usage, and with the object `gridnode`."""


class ChoiceFields(SamplingFields, kw_only=True, frozen=True):
    """What chat completions and completions have in common."""

    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] = 1
    """Answers to give; their seeds differ."""

    stop: StopText | Annotated[tuple[StopText, ...], Meta(max_length=MAX_STOP_TEXTS)] = ()
    presence_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] = 0.0
    logit_bias: Annotated[
        dict[Annotated[int, Meta(ge=0)], Annotated[float, Meta(ge=-100.0, le=100.0)]],
        Meta(max_length=MAX_LOGIT_BIASES),
    ] = {}
    ignore_eos: bool = False
    """Not in OpenAI's API: go on behind the model's own end, for measurements."""

    stream_options: StreamOptions | None = None

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its usage.

        Raises:
            BadField: options of a stream are given without a stream.
        """
        if self.stream_options is not None and not self.stream:
            raise BadField("'stream_options' is for streams: set 'stream' to true", param="stream_options")
        return bool(self.stream_options and self.stream_options.include_usage)


HARMLESS = frozenset({"metadata", "safety_identifier", "service_tier", "store", "user"}) | {
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
}
"""Fields of the API that concern OpenAI's accounts, caches and archives only."""
