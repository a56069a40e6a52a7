"""Requests of `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gridnode.control.answer_schema import MAX_TOP_LOGPROBS, GenerateRequest
from gridnode.control.openai.errors import BadField
from gridnode.control.openai.fields import FieldRules, Refused
from gridnode.control.openai.prompts import Prompts, split_prompts
from gridnode.control.openai.sampling_fields import HARMLESS, MAX_CHOICES, ChoiceFields


class CompletionRequest(ChoiceFields, kw_only=True, frozen=True):
    """Body of `POST /v1/completions`."""

    prompt: Prompts
    """One text, several texts, one list of token ids, or several."""

    max_tokens: Annotated[int, Meta(ge=1)] = 16
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    """How many of the most probable tokens to tell beside each chosen one."""


COMPLETION_FIELDS = FieldRules(
    record=CompletionRequest,
    ignored=HARMLESS,
    refused={
        "best_of": Refused("answers are not compared with each other; use 'n' to get several", (1,)),
        "echo": Refused("the prompt is not repeated and has no logprobs"),
        "suffix": Refused("text is only continued, never inserted", ("",)),
    },
)


def completion_requests(wanted: CompletionRequest, *, max_wait_s: float) -> tuple[GenerateRequest, ...]:
    """Return what the node is asked: for each prompt, once for each of its choices.

    Raises:
        BadField: a prompt is empty, or there are too many answers to give.
    """
    prompts = split_prompts(wanted.prompt, param="prompt")
    if len(prompts) * wanted.n > MAX_CHOICES:
        raise BadField(
            f"{len(prompts)} prompts with {wanted.n} answers each are too many for one request: "
            f"at most {MAX_CHOICES} answers",
            param="prompt",
        )
    seed = wanted.first_seed()
    return tuple(
        GenerateRequest(
            model=wanted.model,
            prompt=prompt if isinstance(prompt, str) else "",
            token_ids=() if isinstance(prompt, str) else prompt,
            max_tokens=wanted.max_tokens,
            sampling=wanted.sampling(number, seed),
            stop=wanted.stop_texts,
            ignore_eos=wanted.ignore_eos,
            presence_penalty=wanted.presence_penalty,
            frequency_penalty=wanted.frequency_penalty,
            logit_bias=wanted.logit_bias,
            top_logprobs=wanted.logprobs,
            max_wait_s=max_wait_s,
            routing=wanted.routing,
        )
        for prompt in prompts
        for number in range(wanted.n)
    )
