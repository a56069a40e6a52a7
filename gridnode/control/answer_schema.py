"""What is asked of a node, and how it answers, in JSON. Fields are added, never renamed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.errors import ErrorCode

# A prompt beyond this is a mistake: the longest contexts are some megabytes of text.
MAX_PROMPT_CHARACTERS = 16 * 1024 * 1024
MAX_MESSAGES = 4096
MAX_STOP_TEXTS = 16
MAX_TOOLS = 128
# A JSON schema is compiled into a grammar before the first token; longer ones cost too much time.
MAX_SCHEMA_CHARACTERS = 256 * 1024
MAX_LOGIT_BIASES = 1024
# What the other interfaces offer as well; each costs its bytes in every event.
MAX_TOP_LOGPROBS = 20
MAX_EMBEDDED_TEXTS = 256

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
"""No vocabulary is larger; those of a model are told by the nodes that serve it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function that the model wants to have called."""

    id: Annotated[str, Meta(max_length=128)]
    name: Annotated[str, Meta(max_length=256)]
    arguments: Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]
    """A JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation."""

    role: Annotated[str, Meta(max_length=32)]
    content: Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)] = ""
    tool_calls: Annotated[tuple[ToolCall, ...], Meta(max_length=MAX_TOOLS)] = ()
    """In a turn of the assistant: what it wanted to have called."""

    tool_call_id: Annotated[str, Meta(max_length=128)] = ""
    """In a turn of the role `tool`: the call that `content` answers."""

    name: Annotated[str, Meta(max_length=256)] = ""
    """In a turn of the role `tool`: the function that was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may ask for."""

    name: Annotated[str, Meta(max_length=256)]
    description: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARACTERS)] = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """JSON schema of its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """Body of `POST /api/v1/run`: either `messages`, or `prompt`, `token_ids` or both."""

    model: Annotated[str, Meta(max_length=512)] = ""
    """Name, or start of the manifest hash; empty for the only model of the swarm."""

    messages: Annotated[tuple[ChatMessage, ...], Meta(max_length=MAX_MESSAGES)] = ()
    """A conversation, put into words by the model's chat template."""

    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)] = ""
    """Text to continue as it stands."""

    token_ids: tuple[TokenId, ...] = ()
    """Tokens to continue. With a `prompt` the text follows them, as a part of what they began."""

    max_tokens: Annotated[int, Meta(ge=1)] = 512
    """New tokens at most."""

    sampling: SamplingParams = GREEDY
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=MAX_STOP_TEXTS)
    ] = ()
    """Texts that end the answer; they are not part of it."""

    ignore_eos: bool = False
    """Go on behind the model's own end: for measurements."""

    sample_at: Literal["last_hop", "client"] = "last_hop"
    """Who chooses tokens: the last hop (a token id travels) or this node (the logits travel, as they do
    whenever one of the next six fields needs them)."""

    presence_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] = 0.0
    """Subtracted from the logits of tokens that the answer already has."""

    frequency_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] = 0.0
    """Subtracted from the logit of a token once for each time that the answer already has it."""

    logit_bias: Annotated[
        dict[TokenId, Annotated[float, Meta(ge=-100.0, le=100.0)]],
        Meta(max_length=MAX_LOGIT_BIASES),
    ] = field(default_factory=dict)
    """Added to the logits of these tokens; -100 forbids a token, 100 forces it."""

    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    """How many of the most probable tokens to tell beside each chosen one; None tells no logprobs."""

    json_schema: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARACTERS)] = ""
    """The answer is JSON that this schema accepts (`{}` accepts any JSON); empty allows any text."""

    tool_choice: Annotated[str, Meta(max_length=256)] = "auto"
    """`auto`, `none`, `required`, or the name of the one tool that must be called."""

    tools: Annotated[tuple[Tool, ...], Meta(max_length=MAX_TOOLS)] = ()
    """Functions that the model may ask for, through its chat template."""

    max_wait_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 0.0
    """How long to wait in line if the swarm has no room; events `waiting` tell the place in the line."""

    max_interruption_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 60.0
    """How long the answer waits in its middle if a hop is lost and nobody serves its blocks."""

    prefill_chunk_tokens: Annotated[int, Meta(ge=1, le=8192)] | None = None
    """Tokens of the prompt per step; None suits the prompt and the route."""

    routing: RouteWishes = ANYWHERE
    """Which nodes may compute the answer."""

    adapter: Annotated[str, Meta(max_length=256)] = ""
    """Name of a LoRA adapter; only nodes that host it compute."""

    drafts: Literal["auto", "off"] = "auto"
    """Whether to propose tokens that the hops verify several at a time, where that is quicker. The answer is
    the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HopStatus:
    """One hop of a route, and what it did."""

    peer_id: str
    short: str
    public_name: str
    start: int
    end: int
    rtt_s: float | None = None
    """Round-trip time from here, if measured."""

    steps: int = 0
    compute_s: float = 0.0
    """Median over the decode steps: time in the span executor."""

    hop_s: float = 0.0
    """Median over the decode steps: from the arrival of a step to the departure of its result."""

    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The session is open on every hop."""

    model: str
    route: tuple[HopStatus, ...]
    prompt_tokens: int
    context_tokens: int
    """Positions that the session leased."""

    context_limit_tokens: int = 0
    """Longest session that this route takes."""

    event: Literal["started"] = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The swarm has no room yet: the answer waits in line. May come several times before `Started`. Behind
    it, a hop was lost and nobody serves its blocks: the answer goes on when somebody does, with `Rerouted`.
    """

    position: int
    """Answers of this node that are served first; 0 in the middle of an answer."""

    text: str
    """What is missing, for people."""

    event: Literal["waiting"] = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprob:
    """How probable a token was: after penalties and biases, before temperature and filters."""

    token_id: int
    text: str
    """The token by itself; an incomplete character is U+FFFD."""

    logprob: float
    """Natural logarithm of the probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLogprob:
    """The chosen token, and those that were the most probable."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()
    """Most probable first, as many as `GenerateRequest.top_logprobs` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Next piece of the answer. `text` may be empty while a character is incomplete."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[ChosenLogprob, ...] = ()
    """One for each token id, if they were asked for."""

    event: Literal["delta"] = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerouted:
    """A hop was lost; the answer goes on along another route."""

    route: tuple[HopStatus, ...]
    event: Literal["rerouted"] = "rerouted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer is complete."""

    reason: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    """Seconds from the request to the first token."""

    decode_tokens_per_s: float
    """Tokens after the first one per second; 0 if there was none."""

    route: tuple[HopStatus, ...]
    reroutes: int = 0
    """How often a hop was lost and replaced."""

    laps: int = 0
    """Steps through all hops after the prompt; each brings the drafts it accepted, and one more token."""

    draft_tokens: int = 0
    """Tokens that were proposed on the way, and verified by the hops."""

    accepted_draft_tokens: int = 0
    """Those of them that are part of the answer."""

    stop_text: str = ""
    """Which text of `GenerateRequest.stop` ended the answer; empty if none did."""

    tool_calls: tuple[ToolCall, ...] = ()
    """What the model wants to have called, if `reason` is `tool_calls`. Their text is in no `Delta`."""

    event: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The answer ends here with an error."""

    code: ErrorCode
    text: str
    event: Literal["failed"] = "failed"


AnswerEvent = Waiting | Started | Delta | Rerouted | Finished
GenerateEvent = AnswerEvent | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Asks for one vector per text: the mean over its tokens of the hidden
    states behind the final norm, at length 1."""

    model: Annotated[str, Meta(max_length=512)] = ""
    texts: Annotated[
        tuple[Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)], ...],
        Meta(max_length=MAX_EMBEDDED_TEXTS),
    ] = ()
    token_ids: Annotated[tuple[tuple[TokenId, ...], ...], Meta(max_length=MAX_EMBEDDED_TEXTS)] = ()
    """Instead of `texts`."""

    routing: RouteWishes = ANYWHERE
    """Which nodes may compute the vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Answer to `EmbedRequest`."""

    model: str
    vectors: tuple[tuple[float, ...], ...]
    """As many as there were texts, each of the model's hidden size."""

    prompt_tokens: int
