"""What the monitor computes from a node's status."""

from __future__ import annotations

from dataclasses import replace

from fake_node import STATUS

from gridnode.control.status_schema import PauseStatus
from gridnode_dashboard.block_ruler import cell_blocks, model_ruler
from gridnode_dashboard.contributors import contributors
from gridnode_dashboard.formatting import bars, meter
from gridnode_dashboard.node_history import MAX_SAMPLES, NodeHistory
from gridnode_dashboard.top_texts import models_text, node_text, peer_text

ME = STATUS.peers[0]
assert ME.serving is not None
SERVING = ME.serving
HALF = replace(ME, serving=replace(SERVING, end=10))


def test_the_ruler_has_a_cell_for_each_block_and_marks_gaps() -> None:
    assert model_ruler(STATUS.models[0], (HALF,), 80).plain == (
        f"           0         10        20\n*aaaaaaaa  {'█' * 10}{'·' * 20}\ncopies     {'1' * 10}{'!' * 20}"
    )


def test_cells_share_many_blocks_without_losing_one() -> None:
    assert [block for blocks in cell_blocks(126, 40) for block in blocks] == list(range(126))


def test_bars_reach_from_zero_to_the_top_and_end_with_the_newest() -> None:
    assert bars([9.0, 0.0, 0.1, 5.0, 10.0], 10.0, 4) == "▁▂▅█"
    assert bars([1.0], 0.0, 3) == "  ▁"
    assert bars([20.0], 10.0, 1) == "█"
    assert bars([1.0], 1.0, 0) == ""


def test_a_meter_is_full_at_its_limit_and_empty_without_one() -> None:
    assert meter(5, 10, 8).spans[0].end == 4
    assert meter(20, 10, 8).spans[0].style == "red"
    assert meter(5, 0, 8).plain == "━" * 8


def test_speeds_are_differences_and_begin_anew_when_the_node_restarts() -> None:
    history = NodeHistory()
    moments = [(0.0, 100, 50, 1), (2.0, 140, 50, 1), (3.0, 150, 150, 1), (4.0, 7, 7, 2), (5.0, 8, 7, 2)]
    for now, answers, prompts, pid in moments:
        status = replace(
            STATUS, pid=pid, uptime_s=now, computed_answer_tokens=answers, computed_prompt_tokens=prompts
        )
        history.note(status, 1000.0 + now)
    assert [sample.answer_tokens_per_s for sample in history.samples] == [0.0, 20.0, 10.0, 0.0, 1.0]
    assert [sample.prompt_tokens_per_s for sample in history.samples] == [0.0, 0.0, 100.0, 0.0, 0.0]
    for second in range(2 * MAX_SAMPLES):
        history.note(STATUS, 2000.0 + second)
    assert len(history.samples) == MAX_SAMPLES


def test_contributors_are_added_up_and_the_own_name_comes_first() -> None:
    others = [
        replace(ME, is_self=False, public_name="Bo"),
        replace(HALF, is_self=False, public_name="Bo "),
        replace(ME, is_self=False, public_name="Cem", state="joining"),
    ]
    found = contributors([*others, replace(HALF, public_name="Zoe")])
    assert [(one.name, one.num_nodes, one.num_blocks) for one in found] == [
        ("Zoe", 1, 10),
        ("Bo", 2, 40),
        ("Cem", 1, 0),
    ]


def test_who_pauses_says_why() -> None:
    resting = replace(ME, is_self=False, state="paused", serving=None, pause_reason="on battery")
    assert "because  on battery" in peer_text(resting, STATUS.peers).plain
    pause = PauseStatus(reason="on battery", remaining_s=None, is_owners=False)
    told = node_text(replace(STATUS, state="paused", pause=pause), (), 100).plain
    assert "now      paused until that changes: on battery" in told


def test_a_strangers_name_is_no_command() -> None:
    model = replace(STATUS.models[0], name="x; id #", gaps=((10, 30),), route="")
    text = models_text(replace(STATUS, peers=(HALF,), models=(model,)), (HALF,), 80).plain
    assert "\ngridnode up --model 'x; id #' --blocks 10:30 --join" in text
