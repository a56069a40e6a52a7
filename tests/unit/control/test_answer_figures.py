"""What an answer cost, in headers and in JSON."""

from __future__ import annotations

from fake_node import HOP

from gridnode.control.answer_figures import answer_figures, start_headers, whole_headers
from gridnode.control.answer_schema import Finished, Started

STARTED = Started(model="tiny", route=(HOP,), prompt_tokens=5, context_tokens=64, context_limit_tokens=8192)
FINISHED = Finished(
    reason="stop",
    prompt_tokens=5,
    completion_tokens=3,
    ttft_s=0.05,
    decode_tokens_per_s=40.0,
    route=(HOP,),
    reroutes=1,
    laps=2,
    draft_tokens=4,
    accepted_draft_tokens=1,
)


def test_a_beginning_tells_route_and_context() -> None:
    assert start_headers(STARTED) == {
        "x-gridnode-route": "aaaaaaaa 0:30",
        "x-gridnode-context": "5/8192",
    }


def test_an_end_tells_milliseconds_and_bytes_of_every_hop() -> None:
    assert whole_headers(answer_figures(STARTED, FINISHED)) == {
        "x-gridnode-route": "aaaaaaaa 0:30",
        "x-gridnode-context": "8/8192",
        "x-gridnode-reroutes": "1",
        "x-gridnode-drafts": "1/4 in 2 laps",
        "server-timing": 'ttft;dur=50.0, hop0;dur=12.5;desc="aaaaaaaa 0:30, 64 B in, 48 B out"',
    }
