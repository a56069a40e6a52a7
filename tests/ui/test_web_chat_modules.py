"""The pure modules of the chat page, in the browser that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import SharedBrowser
from fake_node import FakeNode
from playwright.async_api import Page

pytestmark = pytest.mark.browser


class Modules:
    """Runs scripts in a page of the node that uses none of the modules itself."""

    def __init__(self, browser: SharedBrowser, page: Page) -> None:
        self._browser = browser
        self._page = page

    def run(self, module: str, script: str) -> Any:
        """Return what `script`, the body of a function of the exports `m` of `module`, returns."""
        body = f"async () => {{ const m = await import('/static/chat/{module}.js'); {script} }}"
        return self._browser.run(self._page.evaluate(body))


@pytest.fixture(scope="module")
def modules(browser: SharedBrowser) -> Iterator[Modules]:
    visiting = browser.visiting(FakeNode())
    visit = browser.run(visiting.__aenter__())
    yield Modules(browser, visit.page)
    browser.run(visiting.__aexit__(None, None, None))


# A conversation with a question, two answers, and one more question behind each answer.
BRANCHES = """
    const chat = new m.Conversation({ id: "c", now: 1 });
    const add = (id, parent, role, content = id) => chat.add({ id, parent, role, content, answer: {} });
    add("q1", m.ROOT, "user"); add("a1", "q1", "assistant"); add("q2", "a1", "user");
    add("a2", "q1", "assistant"); add("q3", "a2", "user");
    const shown = () => chat.path().map((turn) => turn.id).join(" ");
"""


def test_new_turn_is_shown(modules: Modules) -> None:
    assert modules.run("conversation", BRANCHES + "return shown()") == "q1 a2 q3"


def test_choosing_a_version_shows_its_newest_branch(modules: Modules) -> None:
    assert modules.run("conversation", BRANCHES + "chat.choose('a1'); return shown()") == "q1 a1 q2"


def test_versions_are_the_turns_in_one_place(modules: Modules) -> None:
    script = BRANCHES + "return chat.versions('a1').map((turn) => turn.id)"
    assert modules.run("conversation", script) == ["a1", "a2"]


def test_messages_are_those_of_one_branch(modules: Modules) -> None:
    script = BRANCHES + "chat.system = 'Be brief'; return chat.messages('q2').map((one) => one.content)"
    assert modules.run("conversation", script) == ["Be brief", "q1", "a1", "q2"]


def test_next_question_replaces_one_without_an_answer(modules: Modules) -> None:
    script = BRANCHES + "add('a3', 'q3', 'assistant', ''); return chat.parentOfNext()"
    assert modules.run("conversation", script) == "a2"


def test_turn_needs_its_parent(modules: Modules) -> None:
    script = BRANCHES + "try { add('x', 'nobody', 'user'); } catch (error) { return error.message; }"
    assert modules.run("conversation", script) == "no turn nobody to follow"


def test_two_windows_join_their_turns(modules: Modules) -> None:
    script = (
        BRANCHES
        + """
        const other = new m.Conversation({ id: "c", now: 1 });
        other.add({ id: "q1", parent: m.ROOT, role: "user" });
        other.add({ id: "b1", parent: "q1", role: "assistant" });
        chat.adopt(other);
        return [chat.versions("a1").length, shown()];
    """
    )
    assert modules.run("conversation", script) == [3, "q1 a2 q3"]


# Fills a chat up to `left` turns, a question and an answer in turn.
FILLED = """
    const fill = (chat, left) => {
        for (let i = 0; chat.freeTurns > left; i++) {
            const parent = i ? `t${i - 1}` : "";
            chat.add({ id: `t${i}`, parent, role: i % 2 ? "assistant" : "user", content: "x", answer: {} });
        }
        return chat;
    };
"""


def test_turns_of_another_window_are_taken_up_to_the_limit(modules: Modules) -> None:
    script = (
        FILLED
        + """
        const { fromSaved, toSaved } = await import("/static/chat/saved_chat.js");
        const chat = fill(new m.Conversation({ id: "c", now: 1 }), 1);
        const other = new m.Conversation({ id: "c", now: 1 });
        other.add({ id: "q", parent: m.ROOT, role: "user" });
        other.add({ id: "a", parent: "q", role: "assistant" });
        chat.adopt(other);
        return [chat.turns.length === m.MAX_TURNS, fromSaved(toSaved(chat)).turns.at(-1).id];
    """
    )
    assert modules.run("conversation", script) == [True, "q"]


@pytest.mark.parametrize(
    ("left", "act", "left_then"),
    [
        (0, "again('t1')", 0),
        (0, "again('t0')", 0),
        (1, "again('t1')", 0),
        (1, "ask('more')", 1),
        (1, "edit('t0', 'more')", 1),
        (2, "ask('more')", 0),
    ],
)
def test_chat_is_never_longer_than_one_that_can_be_read(
    modules: Modules, left: int, act: str, left_then: int
) -> None:
    script = (
        FILLED
        + f"""
        const chats = new m.Chats({{ store: null }});
        const problems = [];
        chats.addEventListener("unsaved", ({{ detail }}) => problems.push(detail.problem));
        const ended = new Promise((resolve) => chats.addEventListener("ended", resolve));
        fill(chats.current, {left});
        chats.{act};
        if (!problems.length) await ended;
        return [chats.current.freeTurns, problems.map((text) => text.includes("begin a new one"))];
    """
    )
    assert modules.run("chats", script) == [left_then, [True] * (left == left_then)]


def test_models_of_one_name_are_told_by_their_manifests(modules: Modules) -> None:
    script = """
        const models = ["a", "b", "a"].map((name, i) => ({ name, manifest: `${i}` }));
        return m.withKeys(models).map(({ key }) => key);
    """
    assert modules.run("status_bar", script) == ["0", "b", "2"]


def test_long_title_is_cut(modules: Modules) -> None:
    script = """
        const chat = new m.Conversation({ id: "c", now: 1 });
        chat.add({ id: "q", parent: m.ROOT, role: "user", content: "  why\\n\\n" + "so ".repeat(50) });
        return chat.title;
    """
    title = modules.run("conversation", script)
    assert title.startswith("why so so")
    assert len(title) == 60


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_from_pieces_of_any_size(modules: Modules, size: int) -> None:
    stream = (
        ": keep-alive\n\n"
        'event: delta\r\ndata: {"event":"delta","text":"ä\\n"}\r\n\r\n'
        ": keep-alive\n\n"
        'event: later\ndata: {"event":"later"}\n\n'
        'data: {"event":"cut'
    )
    script = f"""
        const parser = new m.EventParser();
        const stream = {stream!r};
        const found = [];
        for (let i = 0; i < stream.length; i += {size}) {{
            found.push(...parser.push(stream.slice(i, i + {size})));
        }}
        return found;
    """
    assert modules.run("answer_stream", script) == [{"event": "delta", "text": "ä\n"}, {"event": "later"}]


def test_settings_out_of_range_become_the_first_ones(modules: Modules) -> None:
    script = """return m.readSettings({
        temperature: "hot", top_p: 0.5, top_k: 1.5, seed: -1, max_tokens: 10, stop: ["", "END", 3], other: 1,
    })"""
    assert modules.run("settings", script) == {
        "temperature": 0.7,
        "top_p": 0.5,
        "top_k": 0,
        "repetition_penalty": 1,
        "seed": None,
        "max_tokens": 10,
        "stop": ["END"],
    }


def test_request_has_a_seed_of_its_own_unless_one_is_set(modules: Modules) -> None:
    script = """
        const settings = m.readSettings({});
        return [settings, { ...settings, seed: 0 }].map((one) => m.requestFields(one, 99).sampling.seed);
    """
    assert modules.run("settings", script) == [99, 0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("just an answer", ["", "just an answer", False]),
        ("<think>hm", ["hm", "", True]),
        ("\n<think>\nhm\n</think>\n\nyes", ["hm", "yes", False]),
        ("before <think>hm</think>", ["", "before <think>hm</think>", False]),
    ],
)
def test_reasoning_is_told_from_the_answer(modules: Modules, content: str, expected: list[Any]) -> None:
    script = f"const found = m.splitReasoning({content!r}); return Object.values(found)"
    assert modules.run("reasoning", script) == expected


def test_numbers_are_short(modules: Modules) -> None:
    script = """
        const tokens = [812, 3120, 8000].map(m.formatTokens);
        return [...tokens, ...[3.14, 250.4].map(m.formatRate)];
    """
    assert modules.run("figures", script) == ["812", "3.1k", "8k", "3.1 tokens/s", "250 tokens/s"]


def test_name_of_a_stranger_is_one_short_line(modules: Modules) -> None:
    script = "return [m.shortName(' a\\n\\u202eb\\u0000 '), m.shortName('x'.repeat(100)).length]"
    assert modules.run("figures", script) == ["a b", 32]


def test_growing_markdown_keeps_the_blocks_that_stay(modules: Modules) -> None:
    script = """
        const element = document.createElement("div");
        const view = new m.MarkdownView(element);
        view.show("First.\\n\\nSec");
        const [first, second] = element.children;
        view.show("First.\\n\\nSecond.\\n\\n- one");
        const kept = [element.children[0] === first, element.children[1] === second];
        view.show("First.");
        return [kept, element.textContent.trim()];
    """
    assert modules.run("markdown_view", script) == [[True, False], "First."]


@pytest.mark.parametrize("text", ["'**x** '.repeat(20_000)", "'> '.repeat(20_000) + '**x**'"])
def test_text_beyond_the_parser_is_shown_as_it_stands(modules: Modules, text: str) -> None:
    script = f"""
        const element = document.createElement("div");
        new m.MarkdownView(element).show({text}, {{ isComplete: true }});
        return [element.querySelector("strong"), element.textContent === {text}];
    """
    assert modules.run("markdown_view", script) == [None, True]


def test_oldest_chat_goes_when_there_are_too_many(modules: Modules) -> None:
    script = """
        const { Conversation, ROOT } = await import("/static/chat/conversation.js");
        const store = await m.ChatStore.open();
        for (let i = 0; i <= m.MAX_CHATS; i++) {
            const chat = new Conversation({ id: `c${i}`, now: i });
            chat.add({ id: "q", parent: ROOT, role: "user", content: "?" });
            await store.save(chat);
        }
        const kept = await store.list();
        return [kept.length === m.MAX_CHATS, kept.at(0).id, kept.at(-1).id, await store.load("c0")];
    """
    assert modules.run("chat_store", script) == [True, "c200", "c1", None]
