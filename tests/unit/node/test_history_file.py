from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gridnode.control.history import SAMPLE_S, SAMPLES_SHOWN_S, Activity, Sample, Work
from gridnode.node import history_file
from gridnode.node.history_file import HistoryFile

NOON = 1_700_000_000.0 // SAMPLE_S * SAMPLE_S


def joined(text: str = "joined", at: float = NOON) -> Activity:
    return Activity(at=at, kind="joined", peer_id="p" * 52, public_name="Ada", text=text)


def work(peer_id: str, block_tokens: int, *, name: str = "Ada", at: float = NOON) -> Work:
    return Work(peer_id=peer_id, public_name=name, block_tokens=block_tokens, first_at=at, last_at=at)


@asynccontextmanager
async def opened(path: Path, *, now: float = NOON) -> AsyncIterator[HistoryFile]:
    history = HistoryFile(path, clock=lambda: now)
    try:
        yield history
    finally:
        await history.aclose()


def with_history(
    path: Path, scenario: Callable[[HistoryFile], Awaitable[None]], *, now: float = NOON
) -> None:
    async def run() -> None:
        async with opened(path, now=now) as history:
            await scenario(history)

    asyncio.run(run())


def test_what_was_written_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.sqlite3"

    async def write(history: HistoryFile) -> None:
        sample = Sample(at=NOON, tokens=5, sessions=1, cache_use=0.5)
        await history.add(activities=[joined()], samples=[("a", sample)], work=[work("a", 100)])

    async def read(history: HistoryFile) -> None:
        (activity,) = await history.activity()
        assert (activity.text, activity.number) == ("joined", 1)
        assert await history.samples("a") == (Sample(at=NOON, tokens=5, sessions=1, cache_use=0.5),)
        assert await history.work() == (work("a", 100),)

    with_history(path, write)
    assert path.stat().st_mode & 0o077 == 0
    with_history(path, read)


def test_samples_of_one_time_add_up_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    async def first(history: HistoryFile) -> None:
        await history.add(samples=[("a", Sample(at=NOON, tokens=5, sessions=3, cache_use=0.1))])
        await history.add(samples=[("a", Sample(at=NOON + 10, tokens=2, sessions=1, cache_use=0.7))])
        assert await history.samples("a") == (Sample(at=NOON, tokens=7, sessions=3, cache_use=0.7),)

    async def later(history: HistoryFile) -> None:
        assert await history.samples("a") == ()
        await history.add()
        assert await history._read("SELECT count(*) FROM sample", ()) == [(0,)]

    with_history(tmp_path / "h", first)
    with_history(tmp_path / "h", later, now=NOON + SAMPLES_SHOWN_S + 2 * SAMPLE_S)


def test_activity_is_read_newest_first_in_pages(tmp_path: Path) -> None:
    async def scenario(history: HistoryFile) -> None:
        await history.add(activities=[joined(str(i)) for i in range(5)])
        newest = await history.activity(limit=2)
        assert [a.text for a in newest] == ["4", "3"]
        older = await history.activity(before=newest[-1].number, limit=10_000)
        assert [a.text for a in older] == ["2", "1", "0"]
        assert len(await history.activity(peer_id="p" * 52, kind="joined")) == 5
        assert await history.activity(peer_id="q" * 52) == await history.activity(kind="left") == ()

    with_history(tmp_path / "h", scenario)


@pytest.mark.parametrize(("before", "count"), [(10**30, 1), (-(10**30), 0), (None, 1)])
def test_a_number_from_the_address_bar_may_be_any(tmp_path: Path, before: int | None, count: int) -> None:
    async def scenario(history: HistoryFile) -> None:
        await history.add(activities=[joined()], samples=[], work=[])
        assert len(await history.activity(before=before)) == count
        assert len(await history.activity(before=before, limit=10**30)) == count

    with_history(tmp_path / "history.sqlite3", scenario)


def test_every_table_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_file, "MAX_ACTIVITIES", 3)
    monkeypatch.setattr(history_file, "MAX_SAMPLED_PEERS", 2)
    monkeypatch.setattr(history_file, "MAX_WORKERS", 2)

    async def scenario(history: HistoryFile) -> None:
        await history.add(
            activities=[joined(str(i)) for i in range(10)],
            samples=[(peer, Sample(at=NOON, tokens=i)) for i, peer in enumerate("abcd")],
            work=[work(peer, i) for i, peer in enumerate("abcd")],
        )
        assert [a.text for a in await history.activity()] == ["9", "8", "7"]
        assert [bool(await history.samples(peer)) for peer in "abcd"] == [False, False, True, True]
        assert [w.peer_id for w in await history.work()] == ["d", "c"]

    with_history(tmp_path / "h", scenario)


def test_work_adds_up_under_the_newest_name(tmp_path: Path) -> None:
    async def scenario(history: HistoryFile) -> None:
        await history.add(work=[work("a", 100, name="old")])
        await history.add(work=[work("a", 20, name="new", at=NOON + 60)])
        (found,) = await history.work()
        assert (found.block_tokens, found.public_name) == (120, "new")
        assert (found.first_at, found.last_at) == (NOON, NOON + 60)

    with_history(tmp_path / "h", scenario)


def test_a_file_that_is_no_history_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.write_bytes(b"not a database, but something of somebody" * 100)

    async def scenario(history: HistoryFile) -> None:
        await history.add(activities=[joined()])
        assert len(await history.activity()) == 1

    with_history(path, scenario)
    assert path.with_suffix(".broken").read_bytes().startswith(b"not a database")


def test_closing_waits_for_a_write_that_was_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"

    async def scenario() -> None:
        history = HistoryFile(path, clock=lambda: NOON)
        writing = asyncio.create_task(history.add(activities=[joined()], samples=[], work=[]))
        await asyncio.sleep(0)
        writing.cancel()
        await history.aclose()
        history._executor.shutdown()
        assert not path.with_name(f"{path.name}-wal").exists()

    asyncio.run(scenario())
