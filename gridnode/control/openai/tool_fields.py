"""Tools and output formats in a request: what chat completions and responses write in two ways."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import MAX_SCHEMA_CHARACTERS, Tool
from gridnode.control.openai.errors import BadField

Name = Annotated[str, Meta(min_length=1, max_length=128)]
ANY_OBJECT = '{"type":"object"}'
"""The schema of `json_object`."""


class FunctionFields(msgspec.Struct, kw_only=True, frozen=True):
    """A function that the model may ask for."""

    name: Name
    description: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARACTERS)] | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""

    strict: bool | None = None
    """Taken and not needed: arguments that must be written keep to their schema in any case."""

    def tool(self) -> Tool:
        """Return the function in the words of the door."""
        return Tool(name=self.name, description=self.description or "", parameters=self.parameters or {})


class SchemaFields(msgspec.Struct, kw_only=True, frozen=True):
    """A JSON schema that the answer keeps to."""

    schema: dict[str, Any]
    name: str = ""
    description: str | None = None
    strict: bool | None = None
    """Taken and not needed: a schema is always kept."""


FormatName = Literal["text", "json_object", "json_schema"]


def schema_text(kind: FormatName, schema: dict[str, Any] | None, *, param: str) -> str:
    """Return the JSON schema of a format as text; empty for any text.

    Raises:
        BadField: the schema is missing or too long.
    """
    if kind == "text":
        return ""
    if kind == "json_object":
        return ANY_OBJECT
    if schema is None:
        raise BadField(f"{param} is of type 'json_schema' and has no schema", param=param)
    text = msgspec.json.encode(schema).decode()
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise BadField(
            f"the schema has {len(text)} characters, at most {MAX_SCHEMA_CHARACTERS} are compiled",
            param=param,
        )
    return text


def check_tool_choice(choice: str, tools: tuple[Tool, ...]) -> str:
    """Return `choice`, if there is a tool for it.

    Raises:
        BadField: a tool must be called that is not given.
    """
    if choice in ("auto", "none"):
        return choice
    names = [tool.name for tool in tools]
    if not names or (choice != "required" and choice not in names):
        known = ", ".join(names) or "none"
        raise BadField(
            f"tool_choice asks for {choice[:128]!r}; the tools given are: {known}", param="tool_choice"
        )
    return choice
