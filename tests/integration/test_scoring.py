"""Likelihoods of texts and answers, against the same model of `transformers` on one machine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from served_swarm import ServedSwarm, served_swarm
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from gridnode.cli.app import create_app
from gridnode.control.score_schema import ScoreRequest, TextScore
from gridnode.core.ids import short, show_peer
from gridnode.core.models import QuantFormat
from gridnode.core.route_wishes import RouteWishes
from gridnode.core.spans import Span
from gridnode.engine.text import TextCodec, load_text_codec
from gridnode.errors import NoRoute
from gridnode.node.restarting import restarting

pytestmark = pytest.mark.swarm

TEXTS = ("A cat sat.", "Another one, which is a little longer.", "Who is it?")


@pytest.fixture(scope="module")
def swarm(tiny_llama: Path) -> Iterator[ServedSwarm]:
    spans = [Span(0, 2), Span(2, 4), Span(2, 4)]
    with served_swarm(tiny_llama, spans, quantization=QuantFormat.NONE) as served:
        yield served
        served.wait_nothing_leased()


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def codec(tiny_llama: Path) -> TextCodec:
    return load_text_codec(tiny_llama)


def score(swarm: ServedSwarm, **fields: Any) -> tuple[TextScore, ...]:
    return swarm.run(swarm.swarm.nodes[0].score(ScoreRequest(**fields))).scores


@torch.inference_mode()
def likelihoods(whole: Any, token_ids: list[int]) -> Any:
    """Return the log-likelihood of every token but the first."""
    logprobs = whole(torch.tensor([token_ids])).logits[0].log_softmax(-1)
    return logprobs[torch.arange(len(token_ids) - 1), torch.tensor(token_ids[1:])]


def test_texts_are_as_probable_as_on_one_machine(
    swarm: ServedSwarm, whole: Any, codec: TextCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridnode.node.scoring.CHUNK_TOKENS", 8)  # several steps behind each other
    found = score(swarm, texts=TEXTS)
    for text, one in zip(TEXTS, found, strict=True):
        expected = likelihoods(whole, codec.encode(text))
        assert one.num_tokens == len(expected)
        assert one.log_likelihood == pytest.approx(float(expected.sum()), abs=1e-3)


@pytest.mark.parametrize("raw", [True, False])
def test_answers_share_the_probability(swarm: ServedSwarm, whole: Any, codec: TextCodec, raw: bool) -> None:
    answers = ("yes", "yesterday", "no")
    found = score(swarm, texts=TEXTS, answers=answers, raw=raw)
    for text, one in zip(TEXTS, found, strict=True):
        prompt = codec.encode(text) if raw else codec.encode_chat([{"role": "user", "content": text}])
        sums = []
        for answer in answers:
            ending = codec.encode_continuation(answer)
            sums.append(float(likelihoods(whole, prompt + ending)[-len(ending) :].sum()))
        assert [each.log_likelihood for each in one.answers] == pytest.approx(sums, abs=1e-3)
        assert sum(each.probability for each in one.answers) == pytest.approx(1.0)
        assert one.log_likelihood == max(each.log_likelihood for each in one.answers)


def test_scores_come_from_the_nodes_that_may_compute_them(swarm: ServedSwarm) -> None:
    others = [show_peer(node.peer_id) for node in swarm.swarm.nodes[1:]]
    anywhere = score(swarm, texts=TEXTS)
    for other in others:
        assert score(swarm, texts=TEXTS, routing=RouteWishes(block=(other,))) == anywhere
    for wishes in (RouteWishes(block=tuple(others)), RouteWishes(private=True)):
        with pytest.raises(NoRoute, match=r"blocks [23]:4 of 0:4 .* that the request allows"):
            score(swarm, texts=TEXTS, routing=wishes)


def test_what_has_no_score_says_why_beside_the_others(swarm: ServedSwarm) -> None:
    found = score(swarm, texts=("A cat sat.", "x", "y" * 3000))
    assert [bool(one.problem) for one in found] == [False, True, True]
    assert "fewer than two tokens" in found[1].problem
    assert "2999 tokens do not fit" in found[2].problem


def test_a_hop_that_is_killed_changes_no_score(swarm: ServedSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = score(swarm, texts=TEXTS * 8)
    killed: list[str] = []

    async def killing_once(opener: Any, work: Any) -> Any:
        async def work_and_kill(session: Any) -> Any:
            if not killed:
                killed.append(short(session.plan.route.hops[-1].peer_id))
                swarm.kill_worker_here(killed[0])
            return await work(session)

        return await restarting(opener, work_and_kill)

    monkeypatch.setattr("gridnode.node.scoring.restarting", killing_once)
    found = score(swarm, texts=TEXTS * 8)
    assert killed
    for one, other in zip(found, expected, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)
    swarm.wait_ready()


def gridnode(swarm: ServedSwarm, *arguments: str, text: str = "") -> Result:
    command = ["score", *arguments, "--api", swarm.url.removeprefix("http://")]
    return CliRunner().invoke(create_app(), command, input=text)


def test_lines_of_a_file_on_the_command_line(swarm: ServedSwarm, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("A cat sat.\n\nA dog\tsat.\n")
    shown = gridnode(swarm, str(file))
    assert shown.exit_code == 0, shown.output
    assert "/token  A dog sat." in shown.stdout
    assert "2 lines" in shown.stderr
    assert "perplexity" in shown.stderr
    records = [json.loads(line) for line in gridnode(swarm, str(file), "--json").stdout.splitlines()]
    assert [record["line"] for record in records] == [1, 3]
    assert all(math.isfinite(record["log_likelihood"]) for record in records)


def test_yes_or_no_for_every_question(swarm: ServedSwarm) -> None:
    questions = "".join(f"Is {number} even?\n" for number in range(40))
    shown = gridnode(swarm, "-", "--answers", "yes, no", "--json", text=questions)
    assert shown.exit_code == 0, shown.output
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(records) == 40
    for record in records:
        assert record["answers"].keys() == {"yes", "no"}
        assert sum(record["answers"].values()) == pytest.approx(1.0)
    assert "yes 0." in gridnode(swarm, "-", "--answers", "yes,no", "--raw", text="Is it?\n").stdout


def test_a_line_without_score_ends_with_an_error_behind_the_others(swarm: ServedSwarm) -> None:
    shown = gridnode(swarm, "-", text="A cat sat.\nx\nA dog sat.\n")
    assert shown.exit_code == 2
    assert "/token  A dog sat." in shown.stdout
    assert "line 2: a text of fewer than two tokens" in shown.stdout
    assert "1 of 3 lines have no score" in shown.stderr
    assert gridnode(swarm, "-", text="\n").exit_code == 2
    assert "cannot read" in gridnode(swarm, "no such file").stderr


def test_lines_are_judged_by_the_nodes_that_were_named(swarm: ServedSwarm) -> None:
    others = [show_peer(node.peer_id) for node in swarm.swarm.nodes[1:]]
    assert gridnode(swarm, "-", "--block", others[0], text="A cat sat.\n").exit_code == 0
    refused = gridnode(swarm, "-", "--private", text="A cat sat.\n")
    assert refused.exit_code != 0
    assert "that the request allows" in " ".join(refused.stderr.split())
    senseless = gridnode(swarm, "-", "--home", others[0], text="A cat sat.\n")
    assert senseless.exit_code != 0
    assert "set private too" in " ".join(senseless.stderr.split())
