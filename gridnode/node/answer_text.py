"""From the tokens of an answer to what its reader sees."""

from __future__ import annotations

import secrets

from gridnode.control.answer_schema import GenerateRequest, ToolCall
from gridnode.core.stopping import StopFilter
from gridnode.core.tool_calls import ToolCallFilter
from gridnode.engine.text import TextCodec
from gridnode.node.prompting import offered_tools


class AnswerText:
    """The text of one answer, as it grows: ends at stop texts, holds calls of tools back."""

    def __init__(self, request: GenerateRequest, codec: TextCodec) -> None:
        tools = offered_tools(request)
        self._decoder = codec.stream_decoder()
        self._stop = StopFilter(request.stop)
        self._calls = ToolCallFilter([tool.name for tool in tools]) if tools else None

    @property
    def stop_text(self) -> str:
        """The stop text that was found; empty if none was. Nothing more comes then."""
        return self._stop.found

    def push(self, token_id: int) -> str:
        """Return the text that may be shown after `token_id` came."""
        return self._show(self._stop.push(self._decoder.push(token_id)))

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """Return the text that was held back, and the calls."""
        rest = self._show(self._stop.flush())
        if self._calls is None:
            return rest, ()
        unshown, found = self._calls.finish()
        return rest + unshown, tuple(
            ToolCall(id=f"call_{secrets.token_hex(12)}", name=call.name, arguments=call.arguments)
            for call in found
        )

    def _show(self, text: str) -> str:
        return text if self._calls is None else self._calls.push(text)
