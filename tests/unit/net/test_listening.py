from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from gridnode.core.addresses import Address
from gridnode.net import listening
from gridnode.net.listening import bind_twice
from gridnode.net.udp import bind_udp


@contextlib.contextmanager
def taken_tcp() -> Iterator[Address]:
    """Yield an address whose port is free for UDP, and taken on TCP."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield Address("127.0.0.1", other.getsockname()[1])


@contextlib.contextmanager
def bound(bind: Address) -> Iterator[tuple[int, int | None]]:
    """Yield the ports on UDP and on TCP."""
    udp, tcp = bind_twice(bind)
    with udp, tcp or contextlib.nullcontext():
        yield udp.getsockname()[1], tcp.getsockname()[1] if tcp else None


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_a_free_port_is_the_same_for_both(host: str) -> None:
    with bound(Address(host, 0)) as (udp_port, tcp_port):
        assert udp_port == tcp_port


def test_a_free_port_that_tcp_lacks_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    with taken_tcp() as taken:
        answers = iter([taken, Address("127.0.0.1", 0)])
        monkeypatch.setattr(listening, "bind_udp", lambda _: bind_udp(next(answers)))
        with bound(Address("127.0.0.1", 0)) as (udp_port, tcp_port):
            assert udp_port == tcp_port != taken.port


def test_a_given_port_that_tcp_lacks_goes_without(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with taken_tcp() as taken, bound(taken) as ports:
        assert ports == (taken.port, None)
        assert f"no lanes: cannot listen on TCP {taken}: Address already in use" in caplog.text


def test_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with taken_tcp() as taken:
        monkeypatch.setattr(listening, "bind_udp", lambda _: bind_udp(taken))
        with bound(Address("127.0.0.1", 0)) as ports:
            assert ports == (taken.port, None)
