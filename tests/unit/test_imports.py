"""What a process imports decides how fast it starts and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "onnxruntime", "onnx"}


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules in a fresh interpreter after `statement`."""
    code = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "module",
    [
        "gridnode",
        "gridnode.cli",
        "gridnode.node.node",
        "gridnode.control.door",
        "gridnode.control.client",
        "gridnode.engine.requests",
        "gridnode.engine.text",
        "gridnode.engine.locate",
        "gridnode.engine.gguf_checkpoint",
        "gridnode.engine.safetensors_checkpoint",
        "gridnode.engine.hub_checkpoint",
    ],
)
def test_the_daemon_and_the_command_line_never_import_torch(module: str) -> None:
    assert not imported_by(f"import {module}") & HEAVY


def test_core_and_wire_do_no_input_or_output() -> None:
    found = imported_by("import gridnode.core.swarm, gridnode.core.routing, gridnode.core.placement")
    assert not found & {"asyncio", "torch", "aioquic", "httpx"}
