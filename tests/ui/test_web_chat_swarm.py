"""The chat page on a real swarm: sessions and leases on every hop, and a hop that leaves during an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
from browsing import SharedBrowser
from chat_browsing import READY, begin
from nodes import running_swarm
from playwright.async_api import expect
from safetensors.torch import load_file, save_file

from gridnode.core.spans import Span

pytestmark = [pytest.mark.browser, pytest.mark.swarm]


@pytest.fixture(scope="module")
def talkative_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that never comes to an end by itself."""
    directory = tiny_models.make_model(tmp_path_factory.mktemp("models") / "talkative")
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"][tiny_models.EOS] = 0.0  # the largest of the other logits is above 0
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_chat_streams_stops_and_outlives_a_hop(browser: SharedBrowser, talkative_model: Path) -> None:
    async def scenario() -> None:
        spans = [Span(0, 2), Span(2, 4), Span(2, 4)]
        async with running_swarm(talkative_model, spans) as swarm:
            asked = swarm.nodes[0]
            async with browser.visiting(asked, "/chat") as visit:
                page = visit.page
                await page.get_by_role("button", name="Settings").click()
                await page.fill("#temperature", "0")
                await page.fill("#max_tokens", "1000")
                await page.get_by_role("button", name="Done").click()

                await begin(page, "Go on for long")
                await expect(page.locator("#rate")).to_contain_text("tokens/s")
                await expect(page.locator("#route")).to_contain_text("node 0 0:2 → node ")
                assert asked.status().open_sessions == 1
                await page.get_by_role("button", name="Stop the answer").click()
                await swarm.wait_nothing_leased()
                await expect(page.locator(".notes")).to_have_text("Stopped here")
                await page.wait_for_selector(READY)

                await page.get_by_label("Regenerate: answer again").click()
                await expect(page.locator("#rate")).to_contain_text("tokens/s")
                (used,) = [node for node in swarm.nodes[1:] if node.status().open_sessions]
                await swarm.stop(used)
                await expect(page.locator(".notes")).to_contain_text("A node was lost", timeout=20_000)
                await expect(page.locator(".cost")).to_contain_text("1000 tokens", timeout=200_000)
                swarm.nodes.remove(used)
                await swarm.wait_nothing_leased()

    browser.run(scenario())
