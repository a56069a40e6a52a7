"""Choosing tokens at the client: where an answer is bent, bound to a schema, or told with probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gridnode.control.answer_schema import ChosenLogprob, GenerateRequest, Logprob
from gridnode.core.sampling import FloatArray, sample
from gridnode.core.shaping import LogitShaping, log_probabilities, most_probable
from gridnode.core.tool_calls import calls_schema
from gridnode.engine.grammar import JsonConstraint
from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput, EngineFailed
from gridnode.node.prompting import offered_tools


def constraint_schema(request: GenerateRequest) -> str:
    """Return the JSON schema that the answer must keep to; empty if it may be any text.

    Raises:
        BadInput: a schema is given, and a tool must be called as well.
    """
    if request.tool_choice in ("auto", "none"):
        return request.json_schema
    if request.json_schema:
        raise BadInput("an answer cannot keep to a JSON schema and call a tool; give one of the two")
    return calls_schema({tool.name: tool.parameters for tool in offered_tools(request)})


class TokenChooser:
    """Chooses the tokens of one answer from their logits.

    The state is what was chosen so far, so that a failover changes nothing.

    Args:
        constraint: What the answer must keep to, if anything.
    """

    def __init__(self, request: GenerateRequest, codec: TextCodec, constraint: JsonConstraint | None) -> None:
        self._sampling = request.sampling
        self._top = request.top_logprobs
        self._codec = codec
        self._constraint = constraint
        self._shaping = LogitShaping(
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            bias=request.logit_bias,
        )
        self._counts: Counter[int] = Counter()
        self.is_needed = (
            request.sample_at == "client"
            or self._top is not None
            or constraint is not None
            or not self._shaping.is_neutral
        )
        """Whether the logits must come here; otherwise the last hop may choose."""

    def choose(self, logits: FloatArray, token_ids: Sequence[int]) -> tuple[int, tuple[ChosenLogprob, ...]]:
        """Return the token behind `token_ids`, and its logprob if that was asked for.

        Raises:
            EngineFailed: the logits are not numbers.
            BadInput: the schema and the biases leave no token.
        """
        if not np.isfinite(logits.max()):  # NaN, if any is NaN
            raise EngineFailed(
                f"the logits of position {len(token_ids)} are not numbers: the weights of a hop are damaged"
            )
        allowed = self._constraint.allowed(logits.size) if self._constraint else None
        shaped = logits
        if allowed is not None or not self._shaping.is_neutral:
            shaped = self._shaping.apply(logits, self._counts, allowed)
            if not np.isfinite(shaped.max()):
                raise BadInput("the JSON schema leaves no token to go on with")
        token_id = sample(shaped, self._sampling, position=len(token_ids), history=token_ids)
        self._counts[token_id] += 1
        if self._constraint is not None:
            self._constraint.accept(token_id)
        return token_id, () if self._top is None else (self._describe(shaped, token_id, self._top),)

    def _describe(self, shaped: FloatArray, token_id: int, num_top: int) -> ChosenLogprob:
        logprobs = log_probabilities(shaped)

        def describe(found: int) -> Logprob:
            # JSON has no infinity; nothing is less probable than this in float64.
            value = max(float(logprobs[found]), -9999.0)
            return Logprob(token_id=found, text=self._codec.token_text(found), logprob=value)

        return ChosenLogprob(
            chosen=describe(token_id), top=tuple(map(describe, most_probable(logprobs, num_top)))
        )
