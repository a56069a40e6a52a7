from __future__ import annotations

from gridnode.cli.route_table import figures
from gridnode.control.answer_schema import Finished, HopStatus


def test_time_in_the_hops_is_told_per_token_also_where_a_lap_brings_several() -> None:
    hops = tuple(
        HopStatus(peer_id="a" * 52, short="aaaaaaaa", public_name="", start=i, end=i + 1, hop_s=0.020)
        for i in range(2)
    )
    finished = Finished(
        reason="stop",
        prompt_tokens=5,
        completion_tokens=9,
        ttft_s=0.5,
        decode_tokens_per_s=40.0,
        route=hops,
        laps=4,
        draft_tokens=6,
        accepted_draft_tokens=4,
    )
    told = figures(finished)
    assert "(25.0 ms a token, 20.0 ms of it in the hops)" in told
    assert "2.0 tokens a lap (4 of 6 drafts accepted)" in told
