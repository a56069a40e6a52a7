"""What `gridnode chat` offers to start when no node answers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gridnode.cli.demonstration import demo_model
from gridnode.config.sources import read_sources
from gridnode.core.addresses import Address
from gridnode.errors import BadInput
from gridnode_dashboard.starting import StartOffer

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
SMALL_HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def start_offers(model: str, api: Address) -> tuple[StartOffer, ...]:
    """Return the nodes that could be started here so that `model` answers at `api`; none elsewhere.

    Args:
        model: Empty leaves the choice: what the configuration says, the model of the demo if it is installed,
            or a small one from the Hub.
    """
    if api.host not in LOCAL_HOSTS:
        return ()
    configured = read_sources(os.environ)["serve.model"].value
    if configured and model in ("", configured):
        return (_offer("", f"Start the node of the configuration, with {configured}", api),)
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
    chosen = ("--model", location) if location else ()
    arguments = ("up", *chosen, "--api", str(api), "--stop-with-stdin")
    return StartOffer(label, (sys.executable, "-m", "gridnode", *arguments))
