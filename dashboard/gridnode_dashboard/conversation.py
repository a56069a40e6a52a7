"""A conversation and its settings: what is asked, saved and loaded. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from gridnode.control.answer_schema import ChatMessage, GenerateRequest
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.errors import BadInput

# Somebody sits in front of it and can press Esc; an answer before ours takes minutes at most.
MAX_WAIT_S = 600.0
SETTINGS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed")
_FRACTIONS = ("temperature", "top_p", "repetition_penalty")


@dataclass(slots=True, kw_only=True)
class Conversation:
    """The turns so far, without the system text, and how the next answer is chosen."""

    model: str = ""
    system: str = ""
    max_tokens: int = 512
    sampling: SamplingParams = GREEDY
    is_seeded: bool = False
    """Whether the seed was chosen; otherwise every answer has its own: asking again says something new."""

    messages: list[ChatMessage] = field(default_factory=list)
    unanswered: str = ""
    """The newest question if it got no answer."""

    def ask(self, text: str) -> None:
        """Add a question."""
        self.unanswered = ""
        self.messages.append(ChatMessage(role="user", content=text))

    def answered(self, text: str) -> None:
        """Add an answer; an empty one takes its question back, for templates want turns to alternate."""
        if text:
            self.messages.append(ChatMessage(role="assistant", content=text))
        elif self.messages and self.messages[-1].role == "user":
            self.unanswered = self.messages.pop().content

    def request(self, fresh_seed: int) -> GenerateRequest:
        """Return the request for the next answer; `fresh_seed` is used if no seed was chosen."""
        system = (ChatMessage(role="system", content=self.system),) if self.system else ()
        return GenerateRequest(
            model=self.model,
            messages=(*system, *self.messages),
            max_tokens=self.max_tokens,
            sampling=self.sampling if self.is_seeded else replace(self.sampling, seed=fresh_seed),
            max_wait_s=MAX_WAIT_S,
        )

    def last_answer(self) -> str:
        """Return the newest answer, or an empty text."""
        return next((turn.content for turn in reversed(self.messages) if turn.role == "assistant"), "")

    def take_back_question(self) -> str:
        """Remove the newest question with its answer, if any, and return it; empty if there is none."""
        if self.unanswered:
            return self.unanswered
        while self.messages:
            turn = self.messages.pop()
            if turn.role == "user":
                return turn.content
        return ""

    def set(self, name: str, value: str) -> None:
        """Change one of `SETTINGS`.

        Raises:
            BadInput: no such setting, or a value outside its range.
        """
        if name not in SETTINGS:
            raise BadInput(f"there is no setting {name!r}; use one of {', '.join(SETTINGS)}")
        try:
            number = float(value) if name in _FRACTIONS else int(value)
            if name != "max_tokens":
                self.sampling = replace(self.sampling, **{name: number})  # type: ignore[arg-type]
                self.is_seeded = self.is_seeded or name == "seed"
                return
        except ValueError as exc:
            raise BadInput(f"cannot set {name} to {value!r}: {exc}") from exc
        if number < 1:
            raise BadInput(f"max_tokens must be 1 or more, got {value}")
        self.max_tokens = int(number)

    def settings(self) -> dict[str, object]:
        """Return `SETTINGS` with their present values."""
        values = {name: getattr(self.sampling, name) for name in SETTINGS if name != "max_tokens"}
        return {
            **values,
            "max_tokens": self.max_tokens,
            "seed": self.sampling.seed if self.is_seeded else "any",
        }

    def to_json(self) -> bytes:
        """Return the conversation as a file's content."""
        return msgspec.json.format(msgspec.json.encode(self))


def read_conversation(content: bytes) -> Conversation:
    """Return the conversation in a saved file.

    Raises:
        BadInput: the file holds something else.
    """
    try:
        return msgspec.json.decode(content, type=Conversation)
    except (msgspec.DecodeError, ValueError) as exc:
        raise BadInput(f"this is not a saved conversation: {exc}; /save writes one") from exc
