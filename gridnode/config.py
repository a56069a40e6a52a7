"""What a node is told to do. Every field has its default here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gridnode.core.addresses import DEFAULT_PORT, Address
from gridnode.core.announcements import MAX_PUBLIC_NAME_CHARACTERS
from gridnode.core.models import DTypeName, ExecutorName, QuantFormat
from gridnode.core.spans import Span
from gridnode.paths import state_dir

DEFAULT_API = Address("127.0.0.1", 7337)
"""Where the door listens."""

DEFAULT_LISTEN = Address("127.0.0.1", DEFAULT_PORT)
"""Where QUIC listens."""

DEFAULT_SWARM = "home"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Configuration of one daemon."""

    model: str = ""
    """Directory of safetensors, GGUF file or Hub id to serve; empty serves nothing."""

    blocks: Span | None = None
    """Blocks to serve; None takes as many as fit, where the swarm is weakest."""

    quantization: QuantFormat = QuantFormat.INT8
    """Format of the blocks' weights in memory."""

    dtype: DTypeName = "auto"
    """`float32` or `bfloat16` for what is not quantized; `auto` lets the executor choose."""

    executor: ExecutorName = "auto"
    """`torch`, `onnx`, or `auto`: onnx on CPUs where it knows the family."""

    memory_bytes: int | None = None
    """Memory for weights and KV cache; None is three quarters of what is available at the start."""

    cache_tokens: int = 8192
    """Tokens of KV cache over the whole span, shared by all sessions."""

    threads: int | None = None
    """Threads of the engine worker; None is one per core."""

    listen: Address = DEFAULT_LISTEN
    """Where QUIC listens; port 0 takes a free one."""

    join: tuple[Address, ...] = ()
    """Peers to connect to first."""

    api: Address = DEFAULT_API
    """Where the door listens (HTTP); port 0 takes a free one."""

    swarm: str = DEFAULT_SWARM
    """Name of the swarm; nodes of other swarms are refused."""

    public_name: str = ""
    """Shown to others as the contributor."""

    publish_address: bool = False
    """Whether public monitors may show where this node is reached; peers of the swarm know it anyway."""

    state_dir: Path = field(default_factory=state_dir)
    """Where the identity lives."""

    def __post_init__(self) -> None:
        if len(self.public_name) > MAX_PUBLIC_NAME_CHARACTERS:
            raise ValueError(f"the public name may have {MAX_PUBLIC_NAME_CHARACTERS} characters")
        if self.cache_tokens < 1:
            raise ValueError(f"cache_tokens must be at least 1, got {self.cache_tokens}")
