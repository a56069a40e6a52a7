"""How long a request waits in line, if it does not say so."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from gridnode.control.answer_schema import AnswerEvent, GenerateRequest
from gridnode.control.dialect import names
from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import NodeStatus

# Long enough for somebody else's answer to end; shorter than the patience of any client.
MAX_WAIT_S = 20.0


def patience_s(status: NodeStatus, model: str, wanted_s: float | None) -> float:
    """Return how long to wait for room.

    A full swarm has room again when an answer ends. Blocks that nobody serves need somebody to come:
    that is told at once, while the status of the HTTP answer can still say so.
    """
    if wanted_s is not None:
        return wanted_s
    has_gaps = any(found.gaps for found in status.models if names(found, model))
    return 0.0 if has_gaps else MAX_WAIT_S


def generate_patiently(control: NodeControl, asked: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
    """Answer `asked`, which says nothing of waiting, as `NodeControl.generate`."""
    return control.generate(replace(asked, max_wait_s=patience_s(control.status(), asked.model, None)))
