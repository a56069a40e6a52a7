"""A conversation in Petals' words: the tokens so far are kept, and the next inputs continue them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, GenerateRequest
from gridnode.control.interface import NodeControl
from gridnode.control.patience import generate_patiently
from gridnode.control.petals.requests import Generate, Reply, new_seed
from gridnode.errors import BadInput, ConnectionClosed, ContextFull


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer that goes on when the next turn has no inputs: its session stays open in between."""

    wanted: Generate
    events: AsyncGenerator[AnswerEvent, None]

    def serves(self, wanted: Generate) -> bool:
        """Return whether `wanted` asks for nothing but more of this answer."""
        return (
            not wanted.inputs
            and wanted.stops == self.wanted.stops
            and wanted.sampling(seed=0) == self.wanted.sampling(seed=0)
        )


class PetalsSession:
    """One conversation with one model.

    Args:
        max_length: Tokens of the whole conversation.
    """

    def __init__(self, control: NodeControl, *, model: str, max_length: int) -> None:
        self._control = control
        self._model = model
        self._max_length = max_length
        self._token_ids: tuple[int, ...] = ()
        self._answer: _Answer | None = None

    async def aclose(self) -> None:
        """Free the leases of the answer that may still go on; the tokens so far are kept.

        Safe to call more than once, and to be followed by `generate`.
        """
        if self._answer:
            answer, self._answer = self._answer, None
            await answer.events.aclose()

    async def generate(self, wanted: Generate) -> AsyncGenerator[Reply, None]:
        """Yield the pieces of the next turn; the last one says `stop`.

        Raises:
            ContextFull: the conversation reached its length.
            GridError: as `NodeControl.generate`.
        """
        answer = self._answer
        if answer is None or not answer.serves(wanted):
            await self.aclose()
            answer = self._answer = await self._begin(wanted)
        limit = None if wanted.stop_sequence else self._num_new_tokens(wanted)
        text, num_tokens, num_told = "", 0, 0
        while limit is None or num_tokens < limit:
            event = await anext(answer.events, None)
            if isinstance(event, Delta):
                self._token_ids += event.token_ids
                num_tokens += len(event.token_ids)
                text += event.text
                if limit is None and text:
                    yield Reply(outputs=text, stop=False, token_count=num_tokens - num_told)
                    text, num_told = "", num_tokens
            elif isinstance(event, Finished):
                await self.aclose()
                if event.reason == "length":
                    raise ContextFull(len(self._token_ids) + 1, len(self._token_ids))
                await self._end_turn(wanted, event.stop_text)
                text += event.stop_text
                break
            elif event is None:
                raise ConnectionClosed("the answer broke off before its end")
        yield Reply(outputs=text, stop=True, token_count=num_tokens - num_told)

    async def _begin(self, wanted: Generate) -> _Answer:
        """Continue the tokens so far with the inputs."""
        if wanted.inputs:
            self._token_ids = await self._continued(self._token_ids, wanted.inputs)
        if not self._token_ids:
            raise BadInput("the first 'generate' of a session needs 'inputs'")
        room = self._max_length - len(self._token_ids)
        if room <= 0:
            raise ContextFull(len(self._token_ids) + 1, self._max_length)
        request = GenerateRequest(
            model=self._model,
            token_ids=self._token_ids,
            max_tokens=room,
            sampling=wanted.sampling(seed=new_seed()),
            stop=wanted.stops,
        )
        return _Answer(wanted, generate_patiently(self._control, request))

    async def _end_turn(self, wanted: Generate, found: str) -> None:
        """Let the tokens so far end as the model knows turns to end: with the first stop."""
        if not wanted.stop_sequence or found == wanted.stop_sequence:
            return
        # An extra stop was said, of which the last token is taken back; or the model's own end came,
        # which is in no text.
        kept = self._token_ids[:-1] if found else self._token_ids
        self._token_ids = await self._continued(kept, wanted.stop_sequence)

    async def _continued(self, token_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        request = GenerateRequest(model=self._model, token_ids=token_ids, prompt=text)
        return await self._control.tokenize(request)

    def _num_new_tokens(self, wanted: Generate) -> int | None:
        """Return how many tokens the turn has at most; None leaves it to the length of the session."""
        if wanted.max_new_tokens is not None or wanted.max_length is None:
            return wanted.max_new_tokens
        if wanted.max_length <= len(self._token_ids):
            raise ContextFull(len(self._token_ids) + 1, wanted.max_length)
        return wanted.max_length - len(self._token_ids)
