"""The history of a node in one SQLite file, read and written outside of the event loop's thread."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gridnode.control.history import SAMPLE_S, SAMPLES_SHOWN_S, Activity, Sample, Work

logger = logging.getLogger("gridnode.node.history")

# Some weeks of a lively swarm, in about a megabyte.
MAX_ACTIVITIES = 5000
# A day of samples of this many peers is about 10 MB; the busiest are kept.
MAX_SAMPLED_PEERS = 512
# Who did the least is forgotten first.
MAX_WORKERS = 4096
# How many activities one reader may ask for at once.
MAX_LIMIT = 200
# Another process that reads the file, such as a backup, lets go of it soon.
BUSY_TIMEOUT_S = 2.0
# No activity has a higher number.
_BEYOND_ALL = 1 << 62

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS activity (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, kind TEXT NOT NULL, peer_id TEXT NOT NULL, public_name TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sample (
    peer_id TEXT NOT NULL, at INTEGER NOT NULL, tokens INTEGER NOT NULL, sessions INTEGER NOT NULL,
    cache_use REAL NOT NULL, PRIMARY KEY (peer_id, at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sample_at ON sample (at);
CREATE TABLE IF NOT EXISTS work (
    peer_id TEXT PRIMARY KEY, public_name TEXT NOT NULL, block_tokens INTEGER NOT NULL,
    first_at REAL NOT NULL, last_at REAL NOT NULL
) WITHOUT ROWID;
"""

T = TypeVar("T")


class HistoryFile:
    """Implements `gridnode.control.history.History` on the file at `path`, made at the first use.

    A file that cannot be read is set aside, and a new one begun: the past is worth less than the node.

    Args:
        clock: Returns seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._database: sqlite3.Connection | None = None

    async def activity(
        self, *, before: int | None = None, limit: int = 50, peer_id: str = "", kind: str = ""
    ) -> tuple[Activity, ...]:
        """See `History.activity`; at most `MAX_LIMIT` at once."""
        rows = await self._read(
            "SELECT at, kind, peer_id, public_name, text, number FROM activity"
            " WHERE number < ?1 AND ?2 IN ('', peer_id) AND ?3 IN ('', kind) ORDER BY number DESC LIMIT ?4",
            (_number(before), peer_id, kind, max(0, min(limit, MAX_LIMIT))),
        )
        return tuple(
            Activity(at=at, kind=kind, peer_id=peer_id, public_name=name, text=text, number=number)
            for at, kind, peer_id, name, text, number in rows
        )

    async def samples(self, peer_id: str) -> tuple[Sample, ...]:
        """See `History.samples`."""
        rows = await self._read(
            "SELECT at, tokens, sessions, cache_use FROM sample WHERE peer_id = ? AND at > ? ORDER BY at",
            (peer_id, self._clock() - SAMPLES_SHOWN_S),
        )
        return tuple(
            Sample(at=at, tokens=tokens, sessions=sessions, cache_use=use)
            for at, tokens, sessions, use in rows
        )

    async def work(self) -> tuple[Work, ...]:
        """See `History.work`."""
        rows = await self._read(
            "SELECT peer_id, public_name, block_tokens, first_at, last_at FROM work"
            " ORDER BY block_tokens DESC, peer_id",
            (),
        )
        return tuple(
            Work(peer_id=peer_id, public_name=name, block_tokens=tokens, first_at=first, last_at=last)
            for peer_id, name, tokens, first, last in rows
        )

    async def add(
        self,
        *,
        activities: Sequence[Activity] = (),
        samples: Sequence[tuple[str, Sample]] = (),
        work: Sequence[Work] = (),
    ) -> None:
        """Remember what is new, in one transaction. Samples of the same time add up; so does work.

        Raises:
            sqlite3.Error: the file cannot be written, for example because the disk is full.
        """
        await self._call(lambda database: _add(database, activities, samples, work, self._clock()))

    async def aclose(self) -> None:
        """Close the file. Safe to call more than once; a later use opens it again."""
        # Behind what still waits for the thread: a write that was cancelled would open the file again.
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _read(self, query: str, values: Sequence[object]) -> list[Any]:
        try:
            return await self._call(lambda database: database.execute(query, values).fetchall())
        except sqlite3.Error as exc:
            logger.warning("the history cannot be read: %s", exc)
            return []

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the thread of the file."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(self._opened()))

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            try:
                self._database = _open(self._path)
            except sqlite3.OperationalError:
                raise  # locked, or no room: the file itself is good
            except sqlite3.DatabaseError as exc:
                aside = self._path.with_suffix(".broken")
                logger.warning(
                    "%s is no history that can be read (%s); set aside as %s", self._path, exc, aside
                )
                self._path.rename(aside)
                self._database = _open(self._path)
        return self._database


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # it tells who asks and when
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer gridnode, version {version} of the file")
        database.execute("PRAGMA journal_mode = WAL")
        # A power failure may cost the last seconds, never the file.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _add(
    database: sqlite3.Connection,
    activities: Sequence[Activity],
    samples: Sequence[tuple[str, Sample]],
    work: Sequence[Work],
    now: float,
) -> None:
    with database:
        database.executemany(
            "INSERT INTO activity (at, kind, peer_id, public_name, text) VALUES (?, ?, ?, ?, ?)",
            [(a.at, a.kind, a.peer_id, a.public_name, a.text) for a in activities],
        )
        database.executemany(
            "INSERT INTO sample VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens,"
            " sessions = max(sessions, excluded.sessions), cache_use = max(cache_use, excluded.cache_use)",
            [
                (peer_id, int(s.at // SAMPLE_S) * SAMPLE_S, s.tokens, s.sessions, s.cache_use)
                for peer_id, s in sorted(samples, key=lambda item: -item[1].tokens)[:MAX_SAMPLED_PEERS]
            ],
        )
        database.executemany(
            "INSERT INTO work VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET public_name = excluded.public_name,"
            " block_tokens = block_tokens + excluded.block_tokens, last_at = excluded.last_at",
            [(w.peer_id, w.public_name, w.block_tokens, w.first_at, w.last_at) for w in work],
        )
        _forget(database, now)


def _forget(database: sqlite3.Connection, now: float) -> None:
    """Keep every table within its limit."""
    database.execute(
        "DELETE FROM activity WHERE number <= (SELECT max(number) FROM activity) - ?", (MAX_ACTIVITIES,)
    )
    database.execute("DELETE FROM sample WHERE at < ?", (now - SAMPLES_SHOWN_S - SAMPLE_S,))
    database.execute(
        "DELETE FROM work WHERE peer_id IN"
        " (SELECT peer_id FROM work ORDER BY block_tokens DESC, peer_id LIMIT -1 OFFSET ?)",
        (MAX_WORKERS,),
    )


def _number(before: int | None) -> int:
    """Return the number before which activities are wanted, in 64 bits as SQLite has them."""
    return _BEYOND_ALL if before is None else max(0, min(before, _BEYOND_ALL))
