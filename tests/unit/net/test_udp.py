"""The batched UDP socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections import Counter
from typing import Any

import pytest
from waiting import until

from gridnode.core.addresses import Address
from gridnode.errors import BadInput
from gridnode.net.udp import (
    Datagram,
    DatagramSocket,
    SocketAddress,
    _batch_end,
    bind_udp,
    from_socket_address,
)

ONE: SocketAddress = ("192.0.2.1", 1)
OTHER: SocketAddress = ("192.0.2.2", 1)


def sized(*sizes: int, to: SocketAddress = ONE) -> list[Datagram]:
    return [(bytes(size), to) for size in sizes]


@pytest.mark.parametrize(
    ("datagrams", "end"),
    [
        (sized(1200), 1),
        (sized(1200, 1200, 1200), 3),
        (sized(1200, 1200, 300, 1200), 3),
        (sized(300, 1200), 1),
        (sized(1200) + sized(1200, to=OTHER), 1),
        (sized(*[1200] * 100), 54),
        (sized(*[100] * 100), 64),
        (sized(16_000, 16_000, 16_000, 16_000, 16_000), 4),
        (sized(65_507, 65_507), 1),
    ],
    ids=["one", "equal", "short last", "longer", "other address", "bytes", "segments", "large", "largest"],
)
def test_batches_are_what_one_segmented_write_can_carry(datagrams: list[Datagram], end: int) -> None:
    assert _batch_end(datagrams, 0) == end


@pytest.mark.parametrize("offload", [True, False])
def test_datagrams_of_all_sizes_arrive_as_they_were_sent(offload: bool) -> None:
    async def main() -> None:
        received: list[bytes] = []
        batches = 0
        done = asyncio.Event()
        sent = sized(*[1200] * 70, 1, *[700] * 3, 900, *[16_000] * 6, 5)

        def batch() -> None:
            nonlocal batches
            batches += 1
            if len(received) >= len(sent):
                done.set()

        reader = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)),
            on_datagram=lambda data, _: received.append(data),
            on_batch=batch,
        )
        writer = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)), on_datagram=lambda *_: None, on_batch=lambda: None
        )
        if not offload:
            reader._has_gro = writer._has_gso = False
            reader._sock.setsockopt(17, 104, 0)
        destination = writer.to_socket_address(reader.address)
        assert writer.send([(data, destination) for data, _ in sent]) is None
        async with asyncio.timeout(5):
            await done.wait()
        assert Counter(map(len, received)) == Counter(len(data) for data, _ in sent)
        assert batches < len(sent)
        reader.close()
        reader.close()
        writer.close()

    asyncio.run(main())


def test_refused_segmentation_falls_back_to_single_datagrams() -> None:
    async def main() -> None:
        received: list[bytes] = []
        done = asyncio.Event()
        reader = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)),
            on_datagram=lambda data, _: received.append(data),
            on_batch=lambda: done.set() if len(received) == 3 else None,
        )
        sock = bind_udp(Address("127.0.0.1", 0))

        class Refusing(socket.socket):
            def sendmsg(self, *_: object) -> int:
                raise OSError(22, "Invalid argument")

        writer = DatagramSocket(
            Refusing(sock.family, sock.type, fileno=sock.detach()),
            on_datagram=lambda *_: None,
            on_batch=lambda: None,
        )
        destination = writer.to_socket_address(reader.address)
        assert writer.send([(bytes(100), destination)] * 3) is None
        async with asyncio.timeout(5):
            await done.wait()
        reader.close()
        writer.close()

    asyncio.run(main())


class FailingSocket(socket.socket):
    """A UDP socket on loopback whose sends fail with the error number in `failure`, if there is one."""

    failure: int | None = None

    def __init__(self) -> None:
        sock = bind_udp(Address("127.0.0.1", 0))
        super().__init__(sock.family, sock.type, fileno=sock.detach())

    def sendmsg(self, *arguments: Any) -> int:
        self._fail()
        return super().sendmsg(*arguments)

    def sendto(self, *arguments: Any) -> int:
        self._fail()
        return super().sendto(*arguments)

    def _fail(self) -> None:
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))


@pytest.mark.skipif(sys.platform != "linux", reason="segmentation offload is Linux's")
@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM, errno.ENOBUFS])
def test_a_moment_without_a_network_does_not_end_segmentation(number: int) -> None:
    async def main() -> None:
        sock = FailingSocket()
        writer = DatagramSocket(sock, on_datagram=lambda *_: None, on_batch=lambda: None)
        had_gso = writer._has_gso
        sock.failure = number
        failure = writer.send([(bytes(100), tuple(writer.address))] * 3)
        assert failure is not None
        assert failure.errno == number
        assert writer._has_gso == had_gso
        writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [0, 3])
def test_a_datagram_for_near_routers_never_waits_and_takes_no_place_of_others(waiting: int) -> None:
    async def main() -> None:
        received: list[bytes] = []
        sock = FailingSocket()
        reader = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)),
            on_datagram=lambda data, _: received.append(data),
            on_batch=lambda: None,
        )
        writer = DatagramSocket(sock, on_datagram=lambda *_: None, on_batch=lambda: None)
        sent = [(b"data %d" % number, tuple(reader.address)) for number in range(waiting)]
        sock.failure = errno.EAGAIN
        writer.send(sent)
        writer.send_near(b"probe", tuple(reader.address), hops=4)
        sock.failure = None
        if not waiting:
            writer.send_near(b"next probe", tuple(reader.address), hops=4)
        await until(lambda: not writer._waiting)
        writer.send([(b"last", tuple(reader.address))])
        await until(lambda: b"last" in received)
        assert received == [*(data for data, _ in sent), *([] if waiting else [b"next probe"]), b"last"]
        reader.close()
        writer.close()

    asyncio.run(main())


def test_datagram_that_is_too_large_is_reported() -> None:
    async def main() -> None:
        sock = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)), on_datagram=lambda *_: None, on_batch=lambda: None
        )
        failure = sock.send([(bytes(70_000), ("127.0.0.1", 9))])
        assert failure is not None
        assert failure.strerror == "Message too long"
        sock.close()

    asyncio.run(main())


def test_ipv4_socket_refuses_ipv6_addresses() -> None:
    async def main() -> None:
        sock = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)), on_datagram=lambda *_: None, on_batch=lambda: None
        )
        with pytest.raises(BadInput, match="IPv4"):
            sock.to_socket_address(Address("::1", 1))
        with pytest.raises(BadInput, match="not an IP address"):
            sock.to_socket_address(Address("example.org", 1))
        for port in (-1, 0, 65536, 2**70):
            with pytest.raises(BadInput, match="not an IP address with a port"):
                sock.to_socket_address(Address("127.0.0.1", port))
        sock.close()

    asyncio.run(main())


def test_ipv4_seen_through_ipv6_is_ipv4_again() -> None:
    assert from_socket_address(("::ffff:192.0.2.1", 7, 0, 0)) == Address("192.0.2.1", 7)
    assert from_socket_address(("2001:db8::1", 7, 0, 0)) == Address("2001:db8::1", 7)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more than one IPv4 loopback address")
@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
@pytest.mark.parametrize("count", [1, 5], ids=["one", "segmented"])
def test_an_answer_leaves_by_the_address_that_was_asked(wildcard: str, count: int) -> None:
    async def main() -> None:
        answers: list[SocketAddress] = []
        done = asyncio.Event()

        def answer(data: bytes, source: SocketAddress) -> None:
            assert server.send([(data, source)] * count) is None

        def answered(_: bytes, source: SocketAddress) -> None:
            answers.append(source)
            if len(answers) == count:
                done.set()

        try:
            server = DatagramSocket(bind_udp(Address(wildcard, 0)), on_datagram=answer, on_batch=lambda: None)
        except BadInput as exc:
            pytest.skip(f"no IPv6 here: {exc}")
        client = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)), on_datagram=answered, on_batch=lambda: None
        )
        asked = Address("127.0.0.2", server.address.port)
        client.send([(b"?", client.to_socket_address(asked))])
        async with asyncio.timeout(5):
            await done.wait()
        assert {from_socket_address(source) for source in answers} == {asked}
        server.close()
        client.close()

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="addresses to send by are Linux's")
@pytest.mark.parametrize("count", [1, 5], ids=["one", "segmented"])
def test_an_address_that_is_gone_is_not_sent_by(count: int) -> None:
    async def main() -> None:
        received: list[bytes] = []
        done = asyncio.Event()
        reader = DatagramSocket(
            bind_udp(Address("127.0.0.1", 0)),
            on_datagram=lambda data, _: received.append(data),
            on_batch=lambda: done.set() if len(received) == count else None,
        )
        writer = DatagramSocket(
            bind_udp(Address("0.0.0.0", 0)), on_datagram=lambda *_: None, on_batch=lambda: None
        )
        had_gso = writer._has_gso
        destination = (*writer.to_socket_address(reader.address), socket.inet_aton("192.0.2.250"))
        assert writer.send([(bytes(100), destination)] * count) is None
        async with asyncio.timeout(5):
            await done.wait()
        assert writer._has_gso == had_gso
        reader.close()
        writer.close()

    asyncio.run(main())
