"""Chat templates: Jinja programs that come with a model and put a conversation into its own words.

They are written by strangers and run in a sandbox. Variables, functions and tags are those that
`transformers` offers them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gridnode.engine.tool_prompt import spell_out_tools
from gridnode.errors import BadInput

# What a program can end in: its own words, and what Python says of wrong types, names and numbers.
_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class _GenerationTag(Extension):
    """`{% generation %}` marks what the model says, which matters to training only."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        """Return what stands inside the tag."""
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(lineno)


class ChatTemplate:
    """The chat template of one model.

    Args:
        source: The Jinja program.
        special_tokens: Texts of `bos_token`, `eos_token` and the like.

    Raises:
        BadInput: `source` is not a Jinja program.
    """

    def __init__(self, source: str, *, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_raise_template_error, strftime_now=_strftime_now)
        try:
            self._template: Template = environment.from_string(source)
            self._knows_tools = "tools" in meta.find_undeclared_variables(environment.parse(source))
        except (TemplateError, RecursionError, SyntaxError) as exc:  # Python has limits of its own
            raise BadInput(f"the model's chat template cannot be read: {exc}") from exc
        self._special_tokens = dict(special_tokens)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """Return the prompt that asks the model for the next turn.

        Args:
            tools: Functions that the model may call, in the form that `transformers` gives them. A template
                without words for them is given a system message that explains them.

        Raises:
            BadInput: the template refuses these messages.
        """
        if not self._knows_tools:
            messages, tools = spell_out_tools(messages, tools or ()), None
        try:
            return self._template.render(
                **self._special_tokens,
                messages=messages,
                # Templates tell "none given" from "unknown to this version" by these being None.
                tools=tools,
                documents=None,
                add_generation_prompt=True,
            )
        except _ERRORS as exc:
            raise BadInput(f"the model's chat template refuses these messages: {exc}") from exc


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return `value` as JSON; jinja2's own filter escapes what means something in HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(format_text: str) -> str:
    """Return the local time: some models are told the day."""
    return datetime.now().strftime(format_text)


def _raise_template_error(message: str) -> None:
    raise TemplateError(message)
