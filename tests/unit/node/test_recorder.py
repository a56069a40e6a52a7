from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_node import HOP, SERVING, STATUS

from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, HopStatus, Rerouted, Started
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode.core.ids import PeerId, show_peer
from gridnode.errors import BadInput, CacheFull
from gridnode.node.history_file import HistoryFile
from gridnode.node.recorder import Recorder

NOW = 1_700_000_100.0
ME = PeerId(bytes(32))
HOME = replace(STATUS.peers[0], peer_id=show_peer(ME), public_name="me")
OTHER = replace(STATUS.peers[0], peer_id="b" * 52, short="bbbbbbbb", public_name="Bob", is_self=False)


def hop(peer: PeerStatus, start: int, end: int) -> HopStatus:
    return replace(HOP, peer_id=peer.peer_id, short=peer.short, start=start, end=end)


class Home:
    """What a recorder looks at."""

    def __init__(self, *peers: PeerStatus) -> None:
        self.current = replace(STATUS, peers=peers or (HOME, OTHER))
        self.served = 0
        self.told = 0

    def status(self) -> NodeStatus:
        return self.current

    def tell(self) -> None:
        self.told += 1


@asynccontextmanager
async def recording(home: Home, path: Path) -> AsyncIterator[tuple[Recorder, HistoryFile]]:
    history = HistoryFile(path / "history", clock=lambda: NOW)
    recorder = Recorder(
        history,
        ME,
        status=home.status,
        served_block_tokens=lambda: home.served,
        on_written=home.tell,
        clock=lambda: NOW,
    )
    try:
        yield recorder, history
    finally:
        await history.aclose()


async def answer(*events: AnswerEvent, error: Exception | None = None) -> AsyncGenerator[AnswerEvent, None]:
    for event in events:
        yield event
    if error:
        raise error


def started(*route: HopStatus) -> Started:
    return Started(model="tiny", route=route, prompt_tokens=7, context_tokens=64)


def test_hops_are_credited_with_tokens_times_blocks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with recording(Home(), tmp_path) as (recorder, history):
            events = answer(
                started(hop(HOME, 0, 10), hop(OTHER, 10, 30)),
                Delta(text="a", token_ids=(1,)),
                Delta(text="b", token_ids=(2,)),
            )
            assert len([event async for event in recorder.follow(events)]) == 3
            await recorder.write()
            (found,) = await history.work()
            # 7 tokens of the prompt and the first of the answer, through 20 blocks; the last is not run.
            assert (found.public_name, found.block_tokens) == ("Bob", 8 * 20)
            assert [s.tokens for s in await history.samples(OTHER.peer_id)] == [2]

    asyncio.run(scenario())


def test_figures_of_the_last_answer_are_known_of_its_hops(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with recording(Home(), tmp_path) as (recorder, _):
            measured = replace(hop(OTHER, 0, 30), steps=12, compute_s=0.004)
            finished = Finished(
                reason="stop",
                prompt_tokens=7,
                completion_tokens=2,
                ttft_s=0.1,
                decode_tokens_per_s=9.0,
                route=(measured,),
            )
            _ = [event async for event in recorder.follow(answer(started(measured), finished))]
            at_home, other = recorder.with_last_hops((HOME, OTHER))
            assert at_home.last_hop is None
            assert other.last_hop == measured

    asyncio.run(scenario())


def test_what_this_node_served_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        home = Home()
        async with recording(home, tmp_path) as (recorder, history):
            home.served, home.current = 300, replace(home.current, computed_answer_tokens=15)
            await recorder.write()
            await recorder.write()
            (found,) = await history.work()
            assert (found.public_name, found.block_tokens) == ("me", 300)
            assert [s.tokens for s in await history.samples(HOME.peer_id)] == [15]
            assert home.told == 1

    asyncio.run(scenario())


def test_failover_names_the_lost_hop_and_credits_its_replacement(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with recording(Home(), tmp_path) as (recorder, history):
            third = replace(OTHER, peer_id="c" * 52, short="cccccccc")
            events = answer(
                started(hop(OTHER, 0, 30)),
                Rerouted(route=(hop(third, 0, 30),)),
                Delta(text="b", token_ids=(2,)),
            )
            _ = [event async for event in recorder.follow(events)]
            await recorder.write()
            (failover,) = await history.activity()
            assert (failover.kind, failover.peer_id) == ("failover", OTHER.peer_id)
            assert "cccccccc 0:30" in failover.text
            assert [w.peer_id for w in await history.work()] == [third.peer_id]

    asyncio.run(scenario())


def test_refusals_are_kept_and_mistakes_of_users_are_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with recording(Home(), tmp_path) as (recorder, history):
            with pytest.raises(CacheFull):
                _ = [event async for event in recorder.follow(answer(error=CacheFull(10, 2)))]
            with pytest.raises(BadInput):
                _ = [event async for event in recorder.follow(answer(error=BadInput("no")))]
            recorder.refused(PeerId(b"c" * 32), CacheFull(10, 2))
            await recorder.write()
            assert [a.kind for a in await history.activity()] == ["refused", "refused"]

    asyncio.run(scenario())


def test_engine_failures_are_told_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with recording(Home(), tmp_path) as (recorder, history):
            for state in ("loading", "ready", "restarting", "restarting", "ready"):
                recorder.engine_changed(state, "killed")
            await recorder.write()
            assert [a.text for a in await history.activity()] == ["engine worker restarting: killed"]

    asyncio.run(scenario())


def test_samples_tell_sessions_and_cache_use(tmp_path: Path) -> None:
    async def scenario() -> None:
        busy = replace(SERVING, free_cache_tokens=250, total_cache_tokens=1000, open_sessions=4)
        async with recording(Home(replace(OTHER, serving=busy)), tmp_path) as (recorder, history):
            await recorder.write()
            (sample,) = await history.samples(OTHER.peer_id)
            assert (sample.sessions, sample.cache_use) == (4, 0.75)

    asyncio.run(scenario())


def test_a_session_between_two_looks_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with recording(Home(), tmp_path) as (recorder, history):
            recorder.load_changed(sessions=2, cache_use=0.5)
            recorder.load_changed(sessions=0, cache_use=0.0)
            await recorder.write()
            (sample,) = await history.samples(HOME.peer_id)
            assert (sample.sessions, sample.cache_use) == (2, 0.5)
            assert [s.sessions for s in await history.samples(OTHER.peer_id)] == [0]

    asyncio.run(scenario())


def test_an_unwritable_history_harms_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "history").mkdir()
        async with recording(Home(), tmp_path) as (recorder, history):
            await recorder.write()
            assert await history.activity() == ()

    asyncio.run(scenario())


def test_numbers_that_the_file_cannot_hold_end_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        other = replace(OTHER, serving=replace(SERVING, open_sessions=2**63))
        async with recording(Home(HOME, other), tmp_path) as (recorder, _):
            await recorder.write()

    asyncio.run(scenario())
    assert "the history cannot be written" in caplog.text
