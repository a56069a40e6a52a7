"""What `gridnode chat` offers to start when no node answers."""

from __future__ import annotations

import sys
from pathlib import Path

from gridnode.cli.demonstration import demo_model
from gridnode.core.addresses import Address
from gridnode.errors import BadInput
from gridnode_dashboard.starting import StartOffer

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
SMALL_HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def start_offers(model: str, api: Address) -> tuple[StartOffer, ...]:
    """Return the nodes that could be started here so that `model` answers at `api`; none elsewhere.

    Args:
        model: Empty leaves the choice: the model of the demo, or a small one from the Hub.
    """
    if api.host not in LOCAL_HOSTS:
        return ()
    installed = _installed_model()
    if installed and model in ("", installed, Path(installed).stem):
        return (_offer(installed, f"Start a node with {Path(installed).stem}, which is installed here", api),)
    if model:
        return (_offer(model, f"Start a node with {model}", api),)
    label = f"Download {SMALL_HUB_MODEL} (about 270 MB) and start a node with it"
    return (_offer(SMALL_HUB_MODEL, label, api),)


def _installed_model() -> str:
    try:
        return demo_model()
    except BadInput:
        return ""


def _offer(location: str, label: str, api: Address) -> StartOffer:
    arguments = ("up", "--model", location, "--api", str(api), "--stop-with-stdin")
    return StartOffer(label, (sys.executable, "-m", "gridnode", *arguments))
