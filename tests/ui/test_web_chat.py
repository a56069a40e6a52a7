"""The chat page in a real browser, with a node that says what it was told to say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from browsing import ANY_PORT, PHONE, SharedBrowser
from chat_browsing import READY, Talker, answers, ask, assert_accessible, begin, rerouted
from fake_node import STATUS
from playwright.async_api import expect
from waiting import until

from gridnode.control.answer_schema import Waiting
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.errors import CacheFull
from gridnode_web.pages import make_pages

pytestmark = pytest.mark.browser

MARKDOWN = """Foxes jump because it is **efficient**. A leap costs less than a walk around:

1. look, `measure(gap)`
2. then leap
   - and land softly

```python
def leap(fox: Fox, dog: Dog) -> Landing:
    return fox.over(dog, margin_cm=12)
```

| obstacle | height | effort |
|:--|--:|--:|
| dog | 60 cm | small |
| fence | 110 cm | large |

> The dog was asked, and did not mind. See [the study](https://example.org/foxes).
"""


def test_answer_is_streamed_as_markdown(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        rest = asyncio.Event()
        node = Talker(answers=[["It is ", "**bol", rest, "d**."]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await begin(page, "How is it?")
            await expect(answers(page)).to_have_text("It is **bol")
            rest.set()
            await expect(answers(page).locator("strong")).to_have_text("bold")
            await expect(page.locator(".cost")).to_have_text("3 tokens · 17.3 tokens/s · first after 0.4 s")
            await expect(page.locator("#route")).to_have_text("Ada 0:30")
            await expect(page.locator("#rate")).to_have_text("17.3 tokens/s")
            await expect(page.locator("#context-text")).to_have_text("1.2k / 8.2k")
            await expect(page.locator("#spoken")).to_contain_text("Answer done")
        (asked,) = node.requests
        assert [(turn.role, turn.content) for turn in asked.messages] == [("user", "How is it?")]
        assert asked.model == "tiny"

    browser.run(scenario())


def test_stop_ends_the_answer_at_the_node(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(answers=[["One, two", asyncio.Event()]])
        async with browser.visiting(node, "/chat") as visit:
            await begin(visit.page, "Count")
            await expect(answers(visit.page)).to_have_text("One, two")
            await visit.page.keyboard.press("Escape")
            await until(lambda: node.num_running == 0)
            await expect(visit.page.locator(".notes")).to_have_text("Stopped here")
            await expect(visit.page.locator("#question")).to_be_focused()

    browser.run(scenario())


def test_versions_of_a_turn_can_be_turned_over(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(answers=[["first"], ["second"], ["third"], ["fourth"]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await ask(page, "Say something")
            await page.get_by_label("Regenerate: answer again").click()
            await expect(answers(page)).to_have_text("second")
            await page.wait_for_selector(READY)
            await ask(page, "And more")
            assert [turn.content for turn in node.requests[-1].messages] == [
                "Say something",
                "second",
                "And more",
            ]

            await page.locator(".answer").first.get_by_label("Previous version").click()
            await expect(answers(page)).to_have_text(["first"])
            await expect(page.locator(".answer .which")).to_have_text("1/2")
            # The button that was pressed cannot go further; its neighbour has the focus.
            await expect(page.locator(".answer").get_by_label("Next version")).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(answers(page)).to_have_text(["second", "third"])

            await page.get_by_label("Edit the question").first.click()
            await page.get_by_label("The question in new words").first.fill("Say another thing")
            await page.get_by_role("button", name="Ask this instead").click()
            await expect(answers(page)).to_have_text(["fourth"])
            assert [turn.content for turn in node.requests[-1].messages] == ["Say another thing"]
            await expect(page.locator(".question .which")).to_have_text("2/2")

    browser.run(scenario())


def test_settings_reach_the_node_and_wrong_ones_do_not(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker()
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await page.get_by_role("button", name="Settings").click()
            await page.fill("#system", "Answer briefly.")
            await page.fill("#temperature", "-1")
            await expect(page.locator("#temperature-problem")).to_have_text("-1 is outside 0 to 100")
            await page.get_by_role("button", name="Done").click()
            await expect(page.locator("#temperature")).to_be_focused()
            await assert_accessible(page)
            await visit.screenshot("chat-settings-light")
            await page.fill("#temperature", "0")
            await page.fill("#seed", "7")
            await page.fill("#max_tokens", "33")
            await page.fill("#stop-texts", "END\n\nSTOP")
            await page.get_by_role("button", name="Done").click()
            await ask(page, "Well?")
        (asked,) = node.requests
        assert [turn.role for turn in asked.messages] == ["system", "user"]
        assert (asked.sampling.temperature, asked.sampling.seed, asked.max_tokens) == (0, 7, 33)
        assert asked.stop == ("END", "STOP")

    browser.run(scenario())


def test_error_says_what_happened_and_what_to_do(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(error=CacheFull(5000, 12))
        async with browser.visiting(node, "/chat", complaints=True) as visit:  # the console names every 503
            page = visit.page
            await begin(page, "Too much?")
            await expect(page.locator(".problem .what")).to_have_text(
                "cannot lease 5000 tokens of KV cache, 12 are free"
            )
            await expect(page.locator(".problem .advice")).to_contain_text("Try again in a moment")
            await assert_accessible(page)
            await visit.screenshot("chat-error-light")
            node.error = None
            await page.get_by_role("button", name="Try again").click()
            await expect(answers(page)).to_have_text("Yes.")

    browser.run(scenario())


def test_question_without_an_answer_is_replaced_by_the_next(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(error=CacheFull(5000, 12))
        async with browser.visiting(node, "/chat", complaints=True) as visit:
            page = visit.page
            await begin(page, "Too long")
            await page.wait_for_selector(".problem")
            node.error = None
            await ask(page, "Shorter")
            await expect(page.locator(".question .body")).to_have_text(["Shorter"])
            await expect(page.locator(".question .which")).to_have_text("2/2")
        assert [turn.content for turn in node.requests[-1].messages] == ["Shorter"]

    browser.run(scenario())


def test_reroute_is_a_thin_line(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        rest = asyncio.Event()
        node = Talker(answers=[["before ", rerouted("Bo <b>"), rest, "after"]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await begin(page, "Go on")
            await expect(page.locator(".notes li")).to_have_text(
                "A node was lost; the answer went on along Bo <b> 0:30"
            )
            await expect(page.locator("#route")).to_have_text("Bo <b> 0:30")
            rest.set()
            await expect(answers(page)).to_have_text("before after")
            await expect(page.locator(".notes li")).to_have_count(1)

    browser.run(scenario())


def test_answer_in_line_says_how_long_the_line_is(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        room = asyncio.Event()
        line = (Waiting(position=2, text="512 tokens of KV cache are wanted, 3 are free"), room)
        async with browser.visiting(Talker(in_line=line), "/chat") as visit:
            page = visit.page
            await begin(page, "Soon?")
            await expect(page.locator(".progress")).to_have_text(
                "Waiting for room, behind 2 other answers: 512 tokens of KV cache are wanted, 3 are free"
            )
            room.set()
            await expect(answers(page)).to_have_text("Yes.")

    browser.run(scenario())


def test_last_question_is_edited_by_keyboard(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(answers=[["long\n\n" * 60], ["short"]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await ask(page, "First words")
            await page.keyboard.press("ArrowUp")
            field = page.get_by_label("The question in new words")
            await expect(field).to_be_focused()
            await expect(field).to_be_in_viewport()
            await page.keyboard.press("Escape")
            await expect(page.get_by_label("Edit the question")).to_be_focused()
            await page.keyboard.press("Enter")
            await page.keyboard.type(", more of them")
            await page.keyboard.press("Control+Enter")
            await expect(answers(page)).to_have_text("short")
            await expect(page.locator("#question")).to_be_focused()
        assert node.requests[-1].messages[-1].content == "First words, more of them"

    browser.run(scenario())


def test_reader_of_earlier_lines_is_left_there(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        rest = asyncio.Event()
        node = Talker(answers=[["line\n\n" * 80, rest, "line\n\n" * 80]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await begin(page, "Much")
            newest = page.get_by_role("button", name="Newest")
            await page.wait_for_function("() => document.getElementById('scroll').scrollTop > 500")
            await expect(newest).to_be_hidden()
            await page.evaluate("() => document.getElementById('scroll').scrollTo(0, 100)")
            await expect(newest).to_be_visible()
            rest.set()
            await page.wait_for_selector(READY)
            assert await page.evaluate("() => document.getElementById('scroll').scrollTop") == 100
            await newest.click()
            await expect(page.locator(".cost")).to_be_in_viewport()

    browser.run(scenario())


def test_node_that_goes_and_comes_back(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(answers=[["so far", asyncio.Event()], ["again"]])
        async with browser.window() as visit:
            page = visit.page
            async with serve_door(node, ANY_PORT, pages=make_pages(node)) as address:
                await page.goto(f"http://{address}/chat")
                await begin(page, "Hello")
                await expect(answers(page)).to_have_text("so far")
            await expect(page.locator("#notice")).to_contain_text("does not answer")
            await expect(page.locator("#notice")).to_contain_text("gridnode up")
            await expect(page.locator(".problem .what")).to_contain_text("the node is stopping")
            await expect(answers(page)).to_have_text("so far")
            await expect(page.locator("#send")).to_be_disabled()
            await page.fill("#question", "What I was writing")
            await assert_accessible(page)
            await visit.screenshot("chat-away-light")
            back = Address(address.host, address.port)
            async with serve_door(node, back, pages=make_pages(node)):
                await page.get_by_role("button", name="Look now").click()
                await expect(page.locator("#notice")).to_be_hidden()
                assert await page.input_value("#question") == "What I was writing"
                await page.get_by_role("button", name="Try again").click()
                await expect(answers(page)).to_have_text("again")

    browser.run(scenario())


def test_swarm_without_an_answer_says_what_is_missing(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        gap = replace(STATUS.models[0], gaps=((10, 30),), route="", context_tokens=0)
        node = Talker(current=replace(STATUS, models=(gap,)))
        async with browser.visiting(node, "/chat") as visit:
            await expect(visit.page.locator("#notice")).to_contain_text(
                "gridnode up --model tiny --blocks 10:30"
            )

    browser.run(scenario())


def test_model_is_chosen(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        tiny = STATUS.models[0]
        same = replace(tiny, manifest="e" * 64)
        node = Talker(
            current=replace(
                STATUS, models=(tiny, same, replace(tiny, name="org/large", context_tokens=32_000))
            )
        )
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await page.wait_for_selector(READY)
            await page.select_option("#model", label="large")
            await ask(page, "Who?")
            await expect(page.locator("#context-text")).to_have_text("1.2k / 32k")
            await page.select_option("#model", value="e" * 64)
            await ask(page, "And you?")
        assert [request.model for request in node.requests] == ["org/large", "e" * 64]

    browser.run(scenario())


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone", "wide"])
def test_page_looks_well_and_is_accessible(browser: SharedBrowser, theme: str, size: str) -> None:
    pieces = [MARKDOWN[i : i + 5] for i in range(0, len(MARKDOWN), 5)]
    node = Talker(answers=[["They do."], [*pieces, rerouted("Bo’s laptop")], ["On and on", asyncio.Event()]])
    sizes = {"desk": (1280, 900), "phone": PHONE, "wide": (1920, 1080)}

    async def scenario() -> None:
        async with browser.visiting(node, "/chat", theme=theme, size=sizes[size]) as visit:  # type: ignore[arg-type]
            page = visit.page
            await page.wait_for_selector(READY)
            await visit.screenshot(f"chat-empty-{size}-{theme}")
            await ask(page, "Do foxes jump?")
            await page.get_by_label("Regenerate: answer again").click()
            await expect(page.locator(".answer .which")).to_have_text("2/2")
            await page.wait_for_selector(READY)
            await assert_accessible(page)
            assert await page.evaluate("document.documentElement.scrollWidth") <= sizes[size][0]
            await visit.screenshot(f"chat-{size}-{theme}")
            if size == "phone":
                await page.get_by_role("button", name="Saved chats").click()
                await expect(page.get_by_role("button", name="New chat")).to_be_focused()
                await assert_accessible(page)
                await visit.screenshot(f"chat-list-{size}-{theme}")
                await page.keyboard.press("Escape")
                await expect(page.get_by_role("button", name="Saved chats")).to_be_focused()

    browser.run(scenario())
