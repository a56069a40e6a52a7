"""Who may connect by TCP, before anybody knows who it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from waiting import until

from gridnode.net import guarded_listener
from gridnode.net.guarded_listener import GuardedListener
from gridnode.net.quic_settings import QuicSettings

PATIENT = QuicSettings(handshakes_per_s=10_000, handshakes_per_address_per_s=10_000)


@contextlib.contextmanager
def listening(settings: QuicSettings = PATIENT) -> Iterator[GuardedListener]:
    with GuardedListener(socket.create_server(("127.0.0.1", 0)), settings) as listener:
        listener.settimeout(5)
        yield listener


@contextlib.contextmanager
def strangers(listener: GuardedListener, number: int) -> Iterator[list[socket.socket]]:
    """Connect so often from one address."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
            for _ in range(number)
        ]


def take(listener: GuardedListener) -> socket.socket | None:
    """Return the next connection, or None if it was one too many."""
    try:
        return listener.accept()[0]
    except ConnectionAbortedError:
        return None


def test_more_strangers_than_may_come_are_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_listener, "MAX_STRANGERS", 2)
    with listening() as listener, strangers(listener, 3) as dialled, contextlib.ExitStack() as stack:
        taken = [stack.enter_context(sock) for sock in (take(listener), take(listener)) if sock]
        assert len(taken) == listener.strangers == 2
        assert take(listener) is None
        assert dialled[2].recv(1) == b"", "it holds nothing here"


def test_a_stranger_that_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_listener, "MAX_STRANGERS", 1)
    with listening() as listener, strangers(listener, 2):
        first = take(listener)
        assert first is not None
        first.close()
        second = take(listener)
        assert second is not None
        second.close()
        assert listener.strangers == 0


def test_one_address_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_listener, "MAX_STRANGERS_PER_ADDRESS", 1)
    with listening() as listener, strangers(listener, 2), contextlib.ExitStack() as stack:
        stack.enter_context(listener.accept()[0])
        assert take(listener) is None
        other = stack.enter_context(socket.socket())
        other.bind(("127.0.0.2", 0))
        other.connect(listener.getsockname())
        assert stack.enter_context(listener.accept()[0])


def test_one_address_has_a_rate() -> None:
    settings = QuicSettings(handshakes_per_address_per_s=0.5)
    with listening(settings) as listener, strangers(listener, 2):
        first = take(listener)
        assert first is not None
        first.close()
        assert take(listener) is None


@contextlib.asynccontextmanager
async def serving(listener: GuardedListener) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Let asyncio take the connections; nobody says anything."""
    taken: list[asyncio.StreamWriter] = []

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(attend, sock=listener):
        yield taken


def test_who_is_known_makes_room_for_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_listener, "MAX_STRANGERS", 1)

    async def main() -> None:
        with listening() as listener:
            async with serving(listener) as taken:
                with strangers(listener, 1) as [friend]:
                    await until(lambda: taken)
                    listener.vouch(taken[0].transport)
                    assert listener.strangers == 0
                    with strangers(listener, 2) as [stranger, refused]:
                        await until(lambda: len(taken) == 2)
                        assert taken[1].get_extra_info("peername") == stranger.getsockname()
                        refused.setblocking(False)
                        assert await asyncio.get_running_loop().sock_recv(refused, 1) == b""
                        assert listener.strangers == 1
                    del friend
                await until(lambda: listener.strangers == 0)
                await until(lambda: all(writer.is_closing() for writer in taken))

    asyncio.run(main())
