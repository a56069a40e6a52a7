"""What templates of strangers can do, with the real process."""

from __future__ import annotations

import pytest

from gridnode.engine import template_process
from gridnode.engine.chat_template import ChatTemplate
from gridnode.engine.template_process import TemplateProcess
from gridnode.errors import BadInput

SPECIAL = {"bos_token": "<s>"}
MESSAGES = [{"role": "user", "content": "Grüße 😀"}, {"role": "assistant", "content": "Hi."}]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}]
PLAIN = "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}"
WITH_TOOLS = PLAIN + "{% if tools %}{{ tools | tojson }}{% endif %}"


def render(source: str) -> str:
    return TemplateProcess(source, special_tokens=SPECIAL).render(MESSAGES)


@pytest.mark.parametrize("source", [PLAIN, WITH_TOOLS])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_prompts_are_those_of_the_same_process(source: str, tools: list[dict[str, object]] | None) -> None:
    expected = ChatTemplate(source, special_tokens=SPECIAL).render(MESSAGES, tools)
    assert TemplateProcess(source, special_tokens=SPECIAL).render(MESSAGES, tools) == expected


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% if %}", "cannot be read"),
        ("{{ raise_exception('not like this') }}", "refuses these messages: not like this"),
        ("{{ ''.__class__.__mro__ }}", "refuses these messages"),
        ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "cannot be read: too many statically nested"),
        ("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", "cannot be read"),
        ("{{ 'a' * 10**10 }}", "refuses these messages|broke off"),
        (
            "{% set n = namespace(s='aaaaaaaa') %}" + "{% set n.s = n.s ~ n.s %}" * 40,
            "refuses these|broke off",
        ),
        ("{{ 'a'.ljust(10**10) }}", "refuses these messages|broke off"),
    ],
)
def test_what_cannot_be_rendered_is_refused(source: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        render(source)


def test_a_template_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "RENDER_TIMEOUT_S", 1.0)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(BadInput, match="ran for 1 s and was stopped"):
        render(loops)


def test_a_process_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(BadInput, match="no process could be started"):
        render(PLAIN)
