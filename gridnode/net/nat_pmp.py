"""Asking a router by NAT-PMP (RFC 6886)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from gridnode.errors import ProtocolError
from gridnode.net.gateways import Gateway, NoMapping
from gridnode.wire.nat_pmp import (
    MAX_ANSWER_BYTES,
    NAT_PMP_PORT,
    MappedPort,
    address_question,
    map_question,
    read_address,
    read_mapped,
)

# The first three of RFC 6886, 3.1; a router of this network that is silent for so long does not speak it.
_WAITS_S = (0.25, 0.5, 1.0)

T = TypeVar("T")


async def ask_address(gateway: Gateway) -> str:
    """Return the router's address on the Internet. Cancelling is safe.

    Raises:
        NoMapping: it does not tell; the message follows the name of the router.
    """
    return await _ask(gateway, address_question(), read_address)


async def map_port(gateway: Gateway, port: int, *, wanted: int, lease_s: int) -> MappedPort:
    """Let the router map a UDP port, or go on doing so; with a lease of 0, end it. Cancelling is safe.

    Raises:
        NoMapping: it refuses; the message follows the name of the router.
    """

    def read(answer: bytes) -> MappedPort:
        mapped = read_mapped(answer)
        if mapped.internal_port != port:
            raise ProtocolError(f"answered for port {mapped.internal_port} instead of {port}")
        if lease_s and not (mapped.external_port and mapped.lease_s):
            raise ProtocolError("mapped nothing")
        return mapped

    return await _ask(gateway, map_question(port, wanted=wanted, lease_s=lease_s), read)


async def _ask(gateway: Gateway, question: bytes, read: Callable[[bytes], T]) -> T:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            # The router maps the port for the address that asks. Only from there, answers are taken.
            sock.bind((gateway.local_host, 0))
            sock.connect((gateway.host, NAT_PMP_PORT))
            return read(await _exchange(sock, question))
    except TimeoutError:
        raise NoMapping("does not answer to NAT-PMP") from None
    except ConnectionRefusedError:
        raise NoMapping("does not take NAT-PMP") from None
    except OSError as exc:
        raise NoMapping(f"cannot be asked by NAT-PMP ({exc.strerror or exc})") from exc
    except ProtocolError as exc:
        raise NoMapping(str(exc)) from exc


async def _exchange(sock: socket.socket, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    for wait_s in _WAITS_S:
        await loop.sock_sendall(sock, question)
        try:
            async with asyncio.timeout(wait_s):
                return await loop.sock_recv(sock, MAX_ANSWER_BYTES)
        except TimeoutError:
            continue
    raise TimeoutError
