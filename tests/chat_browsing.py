"""The chat page as a person uses it, and a node that says what a test wants it to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from axe_playwright_python.async_playwright import Axe
from fake_node import HOP, FakeNode
from playwright.async_api import Locator, Page, expect

from gridnode.control.answer_schema import (
    AnswerEvent,
    Delta,
    Finished,
    GenerateRequest,
    Rerouted,
    Started,
    Waiting,
)

# The machine may have other things to do: tests run in parallel.
expect.set_options(timeout=20_000)

READY = "#send:not([disabled])"


@dataclass(eq=False)
class Talker(FakeNode):
    """Gives one of `answers` after the other; the last one again and again.

    An answer is a sequence of pieces of text, of events, and of `asyncio.Event`s that it waits for.
    """

    in_line: Sequence[Waiting | asyncio.Event] = ()
    """What comes before an answer begins."""

    answers: list[Sequence[str | AnswerEvent | asyncio.Event]] = field(default_factory=lambda: [["Yes."]])

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:  # type: ignore[override]
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        self.num_running += 1
        num_tokens = 0
        try:
            if self.error and self.fail_after is None:
                raise self.error
            for step in self.in_line:
                if isinstance(step, Waiting):
                    yield step
                else:
                    await step.wait()
            yield Started(model="tiny", route=(HOP,), prompt_tokens=1200, context_tokens=4096)
            for piece in answer:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, str):
                    num_tokens += 1
                    yield Delta(text=piece, token_ids=(num_tokens,))
                else:
                    yield piece
                if self.error and num_tokens == self.fail_after:
                    raise self.error
            yield Finished(
                reason="stop",
                prompt_tokens=1200,
                completion_tokens=num_tokens,
                ttft_s=0.4,
                decode_tokens_per_s=17.3,
                route=(HOP,),
            )
        finally:
            self.num_running -= 1


def rerouted(name: str) -> Rerouted:
    """An event: the answer goes on through the node `name`."""
    return Rerouted(
        route=(HOP.__class__(peer_id="b" * 52, short="bbbbbbbb", public_name=name, start=0, end=30),)
    )


async def ask(page: Page, text: str) -> None:
    """Ask a question and wait for the end of its answer."""
    await begin(page, text)
    await page.wait_for_selector(READY)


async def begin(page: Page, text: str) -> None:
    """Ask a question."""
    await page.wait_for_selector(READY)
    await page.fill("#question", text)
    await page.press("#question", "Enter")
    await page.wait_for_selector(f".question >> text={text}")


def answers(page: Page) -> Locator:
    """The text of the answers that are shown."""
    return page.locator(".answer > .body")


async def assert_accessible(page: Page) -> None:
    """Check that axe-core finds nothing serious on the page as it is."""
    found = await Axe().run(page)
    grave = [
        f"{violation['id']}: {[node['html'] for node in violation['nodes']]}"
        for violation in found.response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert grave == [], grave
