"""gridnode: run large language models on the computers you already own, together.

async with gridnode.connect() as swarm:
    async for piece in swarm.generate("Why is the sky blue?"):
        print(piece, end="")

model = gridnode.AutoDistributedModelForCausalLM.from_pretrained(name)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Fetched when they are asked for: importing gridnode must cost nothing, and torch alone takes seconds.
_EXPORTS = {
    "AutoDistributedConfig": "gridnode.api.auto_model",
    "AutoDistributedModel": "gridnode.api.auto_model",
    "AutoDistributedModelForCausalLM": "gridnode.api.auto_model",
    "AutoDistributedModelForSequenceClassification": "gridnode.api.auto_model",
    "InferenceSession": "gridnode.api.inference_session",
    "LoraTuning": "gridnode.api.lora",
    "PromptTuning": "gridnode.api.prompt_tuning",
    "RouteWishes": "gridnode.core.route_wishes",
    "RemoteBlocks": "gridnode.api.remote_blocks",
    "Swarm": "gridnode.api.swarm",
    "connect": "gridnode.api.swarm",
}


def __getattr__(name: str) -> Any:
    """Return a part of the Python interface (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'gridnode' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """Return what completion offers."""
    return sorted([*globals(), *_EXPORTS])
