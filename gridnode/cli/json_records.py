"""What commands print with `--json`, where it is not the door's own answer.

Fields are added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

ConfigData = str | bool | int | float | list[str | bool | int | float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """`version`."""

    version: str
    """Of gridnode."""

    python: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigValue:
    """One key of the configuration: `config get`."""

    key: str
    value: ConfigData
    """As in a TOML file; null if there is none."""

    origin: str
    """`default`, `system file`, `user file`, `environment` or `flag`."""

    where: str
    """`path:line` or the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigValues:
    """`config show`."""

    values: tuple[ConfigValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """What a key takes and means."""

    key: str
    takes: str
    default: ConfigData
    variable: str
    """The environment variable."""

    flag: str
    """The flag of `gridnode up`."""

    live: bool
    """Whether SIGHUP gives a new value to a running node."""

    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKeys:
    """`config keys`."""

    keys: tuple[ConfigKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPaths:
    """`config path`."""

    user: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line of the log: `logs`, and `up --log-format json`."""

    time: str
    """ISO 8601, UTC."""

    level: str
    logger: str
    pid: int
    """Process: the node or its engine worker."""

    message: str
    exception: str = ""
    """Traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """One model of the Hub on this disk."""

    name: str
    stored_bytes: int
    """In the Hugging Face cache."""

    quantized_bytes: int
    """In gridnode's own cache."""

    weight_files: int
    total_weight_files: int | None
    """Null if gridnode never opened the model."""

    complete: bool
    last_used_s: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModels:
    """`list`."""

    models: tuple[ListedModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownModel:
    """`show`."""

    name: str
    manifest: str
    family: str
    num_blocks: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    max_positions: int
    """Longest context that the model was trained for, in tokens."""

    num_params: int
    block_bytes: dict[str, int]
    """Memory of one block, by quantization."""

    memory_bytes: dict[str, int]
    """Memory of all blocks, the embeddings and the head, by quantization; without KV cache."""

    kv_bytes_per_token: int
    """KV cache of one token in all blocks."""

    has_chat_template: bool
    licence: str
    """Empty if it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledModel:
    """`pull`."""

    name: str
    commit: str
    directory: str
    """Of the snapshot in the Hugging Face cache."""

    weight_files: int
    """Files that were asked for: all, or those of `--blocks`."""

    total_bytes: int
    """Bytes of those files."""

    fetched_bytes: int
    """Bytes that were not here before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedModel:
    """`rm`."""

    name: str
    freed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """`pause` and `resume`."""

    paused: bool
    remaining_s: float | None
    """Seconds until the pause ends by itself; null if somebody has to resume, or there is none."""

    open_sessions: int
    """Sessions that still run here; during a pause they move to other nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """`down`."""

    pid: int
    """Of the process that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """One line of `ping`."""

    peer_id: str
    path: str
    """`lan` on a network of this computer, `direct` beyond it, `punched`, `relay` or `websocket`."""

    address: str
    """Where its packets come from."""

    rtt_s: float | None
    """Seconds there and back; null if there was no answer."""

    problem: str
    """Why there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredLine:
    """One line of `score`."""

    line: int
    """Counted from 1, empty ones included."""

    text: str
    log_likelihood: float | None
    """Natural logarithm; with `--answers` that of the most probable one. Null if there is no score."""

    num_tokens: int
    """Tokens that were judged."""

    answers: dict[str, float]
    """With `--answers`: the probability of each among them."""

    problem: str
    """Why there is no score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """`invite`."""

    link: str
    """Whoever reads it may use it."""

    swarm: str
    private: bool
    """Whether the swarm has a key."""

    use: str
    """`member`, or what a guest may do: `serve` or `chat`."""

    ends_at: str | None
    """When that ends; null for members."""

    old_key_until: str | None
    """With `--rotate`: until when the old key counts beside the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """`join`."""

    swarm: str
    use: str
    """`member`, or what a guest may do: `serve` or `chat`."""

    ends_at: str | None
    """When that ends; null for members."""

    file: str
    """Where it is kept."""

    running_pid: int | None
    """Process of the node that runs here, which has to be started again; null if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedQuality:
    """One line of `bench quality`."""

    quantization: str
    """Of the weights: `none`, `int8`, `int4`, `int4-g128` or `nf4`."""

    kv: str
    """Of keys and values: `auto` is float32, or `int8`."""

    executor: str
    perplexity: float
    perplexity_change: float
    """Against the unquantized weights: 0.01 is one percent more."""

    kl_divergence: float
    """Nats per token from the probabilities of the unquantized weights."""

    same_choice: float
    """Share of the tokens for which the same one is most probable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedQualities:
    """`bench quality`."""

    model: str
    num_tokens: int
    """Of the text that was read."""

    results: tuple[BenchedQuality, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningStep:
    """One line of `tune`."""

    step: int
    """Counted from 1, over resumptions."""

    num_steps: int
    loss: float
    step_s: float
    """Seconds that it took."""
