"""Asking routers that refuse, lie, stall or are silent; tests/netlab has those that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest
from descriptors import no_descriptors

from gridnode.core.addresses import Address
from gridnode.net import nat_pmp, upnp
from gridnode.net.gateways import Gateway, NoMapping
from gridnode.net.port_mapping import MappingProtocol, PortMapping, map_port, unmap

HERE = Gateway(host="127.0.0.1", local_host="127.0.0.1")
EPOCH = bytes(4)
ADDRESS = b"\x00\x80\x00\x00" + EPOCH + bytes([8, 8, 4, 4])
Answer = Callable[[bytes], bytes | None]


def mapped(question: bytes, *, outside: int = 49152) -> bytes:
    return b"\x00\x81\x00\x00" + EPOCH + question[4:6] + outside.to_bytes(2, "big") + question[8:12]


class Router(asyncio.DatagramProtocol):
    """Answers on a port of loopback."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.questions: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.questions.append(data)
        answer = self.answer(data)
        if answer is not None:
            self.transport.sendto(answer, addr)


@contextlib.asynccontextmanager
async def router(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, *, module: Any = nat_pmp
) -> AsyncIterator[Router]:
    name = "NAT_PMP_PORT" if module is nat_pmp else "SSDP_PORT"
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Router(answer), local_addr=(HERE.host, 0)
    )
    monkeypatch.setattr(module, name, transport.get_extra_info("sockname")[1])
    try:
        yield protocol
    finally:
        transport.close()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here goes beyond loopback, and nobody has to be waited for."""
    monkeypatch.setattr(nat_pmp, "_WAITS_S", (0.01, 2.0))
    monkeypatch.setattr(upnp, "_ASKED", ("",))
    monkeypatch.setattr(upnp, "_WAIT_S", 0.05)
    monkeypatch.setattr(upnp, "SSDP_PORT", 9)


def ask() -> Coroutine[Any, Any, PortMapping]:
    return map_port(HERE, 7338, wanted=7338, lease_s=900)


def test_a_lost_question_is_asked_again_and_another_port_outside_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[bytes] = set()

    def answer(question: bytes) -> bytes | None:
        if question not in seen:
            seen.add(question)
            return None
        return ADDRESS if len(question) == 2 else mapped(question)

    async def main() -> PortMapping:
        async with router(monkeypatch, answer):
            return await ask()

    assert asyncio.run(main()) == PortMapping(
        protocol=MappingProtocol.NAT_PMP,
        gateway=HERE,
        internal_port=7338,
        external=Address("8.8.4.4", 49152),
        lease_s=900,
    )


def test_the_end_of_a_mapping_is_a_lease_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[bytes]:
        def answer(question: bytes) -> bytes:
            return ADDRESS if len(question) == 2 else mapped(question)

        async with router(monkeypatch, answer) as asked:
            await unmap(await ask())
            return asked.questions

    assert asyncio.run(main())[-1] == b"\x00\x01\x00\x00\x1c\xaa" + bytes(6)


@pytest.mark.parametrize(
    ("answer", "problem", "is_router_hidden"),
    [
        (lambda question: b"\x00" + bytes([128 | question[1]]) + b"\x00\x02" + EPOCH, "switched off", False),
        (
            lambda question: ADDRESS if len(question) == 2 else mapped(b"\x00" * 12),
            "for port 0 instead",
            False,
        ),
        (
            lambda question: ADDRESS if len(question) == 2 else mapped(question, outside=0),
            "mapped noth",
            False,
        ),
        (lambda question: b"what?" * 100, "does not know this version", False),
        (lambda question: b"\x00\x80\x00\x03" + EPOCH, "itself has no address on the Internet", True),
        (lambda question: ADDRESS[:8] + bytes([100, 64, 1, 2]), "itself has the address 100.64.1.2", True),
        (lambda question: ADDRESS[:8] + bytes([10, 0, 0, 2]), "itself has the address 10.0.0.2", True),
    ],
)
def test_a_router_that_does_not_map_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, problem: str, is_router_hidden: bool
) -> None:
    async def main() -> None:
        async with router(monkeypatch, answer):
            await ask()

    with pytest.raises(NoMapping, match=problem) as caught:
        asyncio.run(main())
    assert caught.value.is_router_hidden is is_router_hidden
    assert str(caught.value).startswith("the router 127.0.0.1 ")
    assert ("UPnP" in str(caught.value)) is not is_router_hidden  # which would say the same


def test_where_nobody_listens_that_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with router(monkeypatch, lambda question: None):
            pass  # the port is free again
        await ask()

    with pytest.raises(NoMapping, match="does not take NAT-PMP, and does not answer to UPnP"):
        asyncio.run(main())


def test_a_description_elsewhere_is_not_read() -> None:
    told = b"HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n"
    assert upnp.read_location(told, "192.168.1.1") == "http://192.168.1.1:5000/rootDesc.xml"
    assert upnp.read_location(told, "192.168.1.2") == ""
    assert upnp.read_location(told.replace(b"http:", b"file:"), "192.168.1.1") == ""
    assert upnp.read_location(told.replace(b"192.168.1.1:", b"192.168.1.1@192.0.2.7:"), "192.168.1.1") == ""
    assert upnp.read_location(b"NOTIFY * HTTP/1.1\r\n" + told, "192.168.1.1") == ""
    assert upnp.read_location(told.replace(b"http://1", b"http://[1"), "192.168.1.1") == ""


async def by_upnp(monkeypatch: pytest.MonkeyPatch, serve: Callable[[asyncio.StreamWriter], Any]) -> None:
    """Ask a router on loopback whose web server does as `serve` says, with the real library."""

    served: set[asyncio.Event] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(ended := asyncio.Event())
        with contextlib.suppress(ConnectionError):
            await serve(writer)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(handle, HERE.host, 0)
    port = server.sockets[0].getsockname()[1]
    told = f"HTTP/1.1 200 OK\r\nLOCATION: http://127.0.0.1:{port}/d.xml\r\n\r\n".encode()
    monkeypatch.setattr(upnp, "_WAIT_S", 10.0)
    async with server, router(monkeypatch, lambda question: told, module=upnp):
        url = await upnp.find(HERE)
        try:
            await upnp.map_port(HERE, url, 7338, wanted=7338, lease_s=900)
        finally:
            for ended in served:
                await ended.wait()  # the library has let go


def test_a_router_that_sends_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"<")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(upnp, "CALL_TIMEOUT_S", 1.0)
    with pytest.raises(NoMapping, match="did not answer within 1 s by UPnP"):
        asyncio.run(by_upnp(monkeypatch, drip))


def test_a_router_that_sends_too_much_ends_the_process_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"<" * 2**20)
            await writer.drain()

    with pytest.raises(NoMapping, match="UPnP"):
        asyncio.run(by_upnp(monkeypatch, flood))


def test_a_router_that_names_another_host_for_upnp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    service = "urn:schemas-upnp-org:service:WANIPConnection:1"
    described = (
        "<root><device><serviceList><service>"
        f"<serviceType>{service}</serviceType><controlURL>http://127.0.0.2:1/ctl</controlURL>"
        "</service></serviceList></device></root>"
    ).encode()

    async def describe(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(described) + described)
        await writer.drain()

    with pytest.raises(NoMapping, match=r"names '127.0.0.2' for UPnP instead of itself"):
        asyncio.run(by_upnp(monkeypatch, describe))


@pytest.mark.parametrize(
    "ask_router",
    [nat_pmp.ask_address, upnp.find, lambda gateway: upnp.unmap(gateway, "http://127.0.0.1:9/", 7338)],
    ids=["nat-pmp", "ssdp", "upnp"],
)
def test_without_descriptors_no_router_is_asked(
    ask_router: Callable[[Gateway], Coroutine[Any, Any, object]],
) -> None:
    async def main() -> None:
        with no_descriptors():
            await ask_router(HERE)

    with pytest.raises(NoMapping, match=r"cannot be asked by .* \(Too many open files\)"):
        asyncio.run(main())


def test_an_installation_that_was_replaced_asks_no_router_by_upnp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(NoMapping, match=r"cannot be asked by UPnP \(No such file or directory\)"):
        asyncio.run(upnp.unmap(HERE, "http://127.0.0.1:9/", 7338))
