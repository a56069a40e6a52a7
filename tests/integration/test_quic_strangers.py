"""What strangers can do to a node over QUIC: handshakes without proof, noise, floods, violations."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection as SansIoConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from quic_nodes import TIMEOUT_S, node, run
from waiting import until

from gridnode.core.addresses import Address
from gridnode.errors import PeerLost, ProtocolError
from gridnode.net.clock import now_s
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_driver import ALPN
from gridnode.net.quic_settings import QuicSettings
from gridnode.wire.frames import Frame

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])


class Stranger:
    """A client that speaks QUIC by its own rules, on a socket of its own."""

    def __init__(self, **options: Any) -> None:
        configuration = QuicConfiguration(
            alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE, server_name="gridnode"
        )
        for name, value in options.items():
            setattr(configuration, name, value)
        self.quic = SansIoConnection(configuration=configuration)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)

    async def connect(self, address: Address) -> events.ConnectionTerminated:
        """Try the handshake, ask for a stream, and return how the node ended it."""
        loop = asyncio.get_running_loop()
        self.quic.connect(tuple(address), now=now_s())
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for data, destination in self.quic.datagrams_to_send(now=now_s()):
                    self.sock.sendto(data, destination)
                data, source = await loop.sock_recvfrom(self.sock, 65535)
                self.quic.receive_datagram(data, source, now=now_s())
                while (event := self.quic.next_event()) is not None:
                    if isinstance(event, events.HandshakeCompleted):
                        self.quic.send_stream_data(0, b"let me in")
                if self.quic._close_event is not None:
                    self.sock.close()
                    return self.quic._close_event


def rsa_certificate() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {"certificate": unsigned(key).sign(key, hashes.SHA256()), "private_key": key}


def foreign_certificate() -> dict[str, Any]:
    """Return a certificate that another key signed, as if an authority had."""
    key, authority = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    return {"certificate": unsigned(key).sign(authority, None), "private_key": key}


def unsigned(key: rsa.RSAPrivateKey | Ed25519PrivateKey) -> x509.CertificateBuilder:
    """Return all of a certificate for `key` but its signature."""
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2040, 1, 1))
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict, "no certificate"),
        (rsa_certificate, "instead of Ed25519"),
        (foreign_certificate, "not signed by its own key"),
    ],
    ids=["no certificate", "rsa", "foreign signature"],
)
def test_client_without_a_proper_certificate_is_refused(
    options: Callable[[], dict[str, Any]], reason: str
) -> None:
    async def main() -> None:
        async with node() as server:
            accepting = asyncio.create_task(server.accept())
            ended = await Stranger(**options()).connect(server.address)
            assert reason in ended.reason_phrase
            assert 0x100 <= ended.error_code <= 0x1FF
            assert not accepting.done()
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)

    run(main())


def test_another_protocol_is_refused() -> None:
    async def main() -> None:
        async with node() as server:
            ended = await Stranger(alpn_protocols=["h3"]).connect(server.address)
            assert ended.error_code == 0x100 + 120
            await until(lambda: server.endpoint.connections == ())

    run(main())


def test_noise_leaves_no_state() -> None:
    async def main() -> None:
        async with node() as server:
            source = random.Random(7)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(400):
                    noise = source.randbytes(source.choice([0, 1, 5, 6, 20, 1199, 1200, 1500]))
                    sock.sendto(noise, server.address)
                    # Shaped like the first packet of a connection, which is where state begins.
                    initial = bytes([0xC0 | source.randrange(16)]) + b"\0\0\0\1\x08" + source.randbytes(1300)
                    sock.sendto(initial, server.address)
            async with node() as client:
                await client.dial(server.address, peer_id=server.peer_id, timeout_s=TIMEOUT_S)
                assert len(server.endpoint.connections) == 1
            await until(lambda: server.endpoint.routes == 0)

    run(main())


def test_noise_on_a_connection_does_not_end_it() -> None:
    async def main() -> None:
        async with node() as server, node() as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            accepted = await server.accept()
            stream = await dialled.open_stream()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(200):
                    packet = b"\x40" + accepted.quic.host_cid + os.urandom(60)
                    sock.sendto(packet, server.address)
            await stream.send(Frame(0x10, body=b"x"))
            assert await (await accepted.accept_stream()).receive() == Frame(0x10, body=b"x")

    run(main())


def test_connections_above_the_limit_get_no_answer() -> None:
    async def main() -> None:
        async with node(settings=QuicSettings(max_connections=2)) as server, node() as client:
            for _ in range(2):
                await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            with pytest.raises(PeerLost, match="nobody answered"):
                await client.dial(server.address, peer_id=None, timeout_s=0.3)
            assert len(server.endpoint.connections) == 2

    run(main())


@contextlib.contextmanager
def unfinished_handshakes(server: QuicTransport) -> Iterator[Callable[[], None]]:
    """Yield what begins a handshake that never ends, as a forged packet does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def begin() -> None:
            quic = SansIoConnection(
                configuration=QuicConfiguration(alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
            )
            quic.connect(tuple(server.address), now=now_s())
            for data, destination in quic.datagrams_to_send(now=now_s()):
                sock.sendto(data, destination)

        yield begin


def test_handshakes_that_never_end_keep_nobody_out() -> None:
    async def main() -> None:
        settings = QuicSettings(max_connections=8, max_handshakes=4)
        async with node(settings=settings) as server, node() as client:
            first = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            with unfinished_handshakes(server) as begin:
                for _ in range(12):
                    newest = server.endpoint.connections[-1]
                    begin()
                    await until(lambda newest=newest: server.endpoint.connections[-1] is not newest)
                    assert len(server.endpoint.connections) <= 1 + 4
            await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            assert not first.is_closed

    run(main())


def test_a_full_table_makes_room_by_its_oldest_handshake_and_never_by_a_connection() -> None:
    async def main() -> None:
        async with node(settings=QuicSettings(max_connections=3)) as server, node() as client:
            dialled = [await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)]
            with unfinished_handshakes(server) as begin:
                for _ in range(2):
                    begin()
                await until(lambda: len(server.endpoint.connections) == 3)
                for _ in range(2):
                    dialled.append(await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S))
            assert len(server.endpoint.connections) == 3
            with pytest.raises(PeerLost, match="nobody answered"):
                await client.dial(server.address, peer_id=None, timeout_s=0.3)
            assert not any(connection.is_closed for connection in dialled)

    run(main())


def test_handshakes_above_the_rate_get_no_answer() -> None:
    async def main() -> None:
        settings = QuicSettings(handshakes_per_address_per_s=0.5)
        async with node(settings=settings) as server, node() as client:
            await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            with pytest.raises(PeerLost, match="nobody answered"):
                await client.dial(server.address, peer_id=None, timeout_s=0.3)

    run(main())


def test_connections_that_nobody_accepts_are_refused_as_busy() -> None:
    async def main() -> None:
        settings = QuicSettings(max_waiting_connections=1)
        async with node(settings=settings) as server, node() as client:
            await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            refused = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            await refused.wait_closed()
            with pytest.raises(PeerLost, match="busy"):
                await refused.open_stream()

    run(main())


def test_handshake_that_never_ends_is_given_up() -> None:
    async def main() -> None:
        async with node(settings=QuicSettings(handshake_timeout_s=0.1)) as server:
            with unfinished_handshakes(server) as begin:
                begin()
                await until(lambda: len(server.endpoint.connections) == 1)
                await until(lambda: server.endpoint.connections[0].is_closed)
            await until(lambda: server.endpoint.connections == ())

    run(main())


def test_peer_that_violates_quic_is_closed_with_a_protocol_error() -> None:
    async def main() -> None:
        async with node() as server, node() as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            accepted = await server.accept()
            # A stream above the limit that the server gave.
            dialled.quic._remote_max_streams_bidi = 10_000
            dialled.quic.send_stream_data(4 * 5000, b"x")
            dialled.flush()
            with pytest.raises(ProtocolError, match="violated QUIC"):
                await accepted.accept_stream()
            with pytest.raises(PeerLost, match="QUIC error"):
                await dialled.accept_stream()

    run(main())


def test_failing_library_ends_one_connection_and_not_the_socket(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a bug that a packet found")

    async def main() -> None:
        async with node() as server, node() as client:
            broken = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            accepted = await server.accept()
            accepted.quic.receive_datagram = fail  # type: ignore[method-assign]
            stream = await broken.open_stream()
            await stream.send(Frame(0x10))
            with pytest.raises(ProtocolError, match="could not be handled"):
                await accepted.accept_stream()
            assert server.endpoint.connections == ()
            await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)

    run(main())
    assert "a bug that a packet found" in caplog.text
