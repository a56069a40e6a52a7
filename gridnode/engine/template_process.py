"""Chat templates that peers sent, each prompt rendered in a process of its own: JSON comes in and goes out.

A template is a program. jinja2's sandbox keeps it from the computer's files, but not from its time and
memory: loops within loops take days, a text that is doubled forty times takes all there is. Here both have a
limit.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gridnode.engine.chat_template import ChatTemplate
from gridnode.errors import BadInput

# Rendering takes milliseconds, and the process a tenth of a second.
RENDER_TIMEOUT_S = 10.0
# Of data: Python and jinja2 take 20 MiB, a conversation of the longest prompts some times their size.
_MAX_MEMORY_BYTES = 512 * 1024 * 1024


class TemplateProcess:
    """The chat template of one model, as `ChatTemplate`."""

    def __init__(self, source: str, *, special_tokens: Mapping[str, str]) -> None:
        self._template = {"source": source, "special_tokens": dict(special_tokens)}

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """Return the prompt; see `ChatTemplate.render`. Blocks for a tenth of a second.

        Raises:
            BadInput: as `ChatTemplate`, or the template takes too long, or too much memory.
        """
        call = {**self._template, "messages": list(messages), "tools": tools and list(tools)}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "gridnode.engine.template_process"],
                input=json.dumps(call).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=RENDER_TIMEOUT_S,
                check=True,
            )
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise BadInput(
                "the model's chat template, which a peer sent, ran for "
                f"{RENDER_TIMEOUT_S:g} s and was stopped"
            ) from None
        except (subprocess.CalledProcessError, ValueError) as exc:
            raise BadInput(f"the model's chat template, which a peer sent, broke off: {exc}") from exc
        except OSError as exc:
            raise BadInput(f"no process could be started for the model's chat template: {exc}") from exc
        if "refused" in answer:
            raise BadInput(answer["refused"])
        prompt: str = answer["prompt"]
        return prompt


def main() -> None:
    """Read a call from standard input; write the `prompt`, or why it is `refused`, to standard output."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    # Also if nobody is left who waits for it.
    longest_s = math.ceil(RENDER_TIMEOUT_S)
    resource.setrlimit(resource.RLIMIT_CPU, (longest_s, longest_s))
    call = json.load(sys.stdin.buffer)
    try:
        template = ChatTemplate(call["source"], special_tokens=call["special_tokens"])
        answer = {"prompt": template.render(call["messages"], call["tools"])}
    except BadInput as exc:
        answer = {"refused": str(exc)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
