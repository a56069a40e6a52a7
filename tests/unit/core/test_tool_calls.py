import json

import pytest

from gridnode.core.tool_calls import FoundCall, ToolCallFilter, calls_schema

CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
FOUND = FoundCall("weather", '{"city": "Oslo"}')


def run(text: str, size: int = 1) -> tuple[str, list[FoundCall]]:
    calls = ToolCallFilter(["weather"])
    shown = "".join(calls.push(text[i : i + size]) for i in range(0, len(text), size))
    rest, found = calls.finish()
    return shown + rest, found


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CALL, ""),
        (f"  \n{CALL}\n", ""),
        (f"<tool_call>\n{CALL}\n</tool_call>", ""),
        (f"Let me look.\n<tool_call>{CALL}</tool_call>", "Let me look.\n"),
        (f"<tool_call>{CALL}", ""),
        (f"[TOOL_CALLS] [{CALL}]", ""),
        (f"<|python_tag|>{CALL}", ""),
        ('{"name": "weather", "parameters": {"city": "Oslo"}}', ""),
        ('{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}', ""),
    ],
)
def test_a_call_is_found_however_it_is_written_and_cut(text: str, shown: str, size: int) -> None:
    assert run(text, size) == (shown, [FOUND])


def test_several_calls_are_found() -> None:
    tagged = f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>"
    assert run(tagged) == ("", [FOUND, FOUND])
    assert run(f"[{CALL}, {CALL}]") == ("", [FOUND, FOUND])


@pytest.mark.parametrize(
    "text",
    [
        "It is <b>cold</b> in Oslo, [really].",
        '{"temperature": 3}',
        '{"name": "delete_everything", "arguments": {}}',
        "<tool_call>{broken</tool_call>",
        "{",
        "a < b <tool",
        '{"name": "weather", "arguments": {"city": "\\ud83d"}}',
        '{"name": "weather", "arguments": "{\\"city\\": \\"\\\\ud83d\\"}"}',
        '{"name": "weather", "arguments": {"degrees": NaN}}',
        '{"name": "weather", "arguments": {"degrees": -Infinity}}',
        '{"name": "weather", "arguments": {"degrees": 1e999}}',
        "[" * 5000,
        '{"name": "weather", "arguments": "' + "[" * 5000 + '"}',
        "",
        "   ",
    ],
)
def test_what_is_no_call_of_a_given_tool_stays_text(text: str) -> None:
    assert run(text) == (text, [])


def test_text_is_shown_at_once() -> None:
    calls = ToolCallFilter(["weather"])
    assert [calls.push(piece) for piece in ("It ", "is ", "<3")] == ["It ", "is ", "<3"]


def test_the_schema_of_a_forced_call_names_every_tool() -> None:
    schema = json.loads(calls_schema({"a": {"type": "object"}, "b": {}}))
    assert [option["properties"]["name"]["const"] for option in schema["anyOf"]] == ["a", "b"]
    assert schema["anyOf"][1]["properties"]["arguments"] == {"type": "object"}
