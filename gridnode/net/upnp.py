"""Asking a router by UPnP: found with a question of ours (SSDP), talked to by the library miniupnpc.

Only the router itself is listened to, and it may name nobody else: what the library finds by itself would be
whoever answers on the network.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from gridnode.core.addresses import Address
from gridnode.net.gateways import Gateway, NoMapping

SSDP_PORT = 1900
_SSDP_GROUP = "239.255.255.250"
# Routers answer the question that is for them alone; some only that for everybody (UPnP 1.0 knew no other).
_ASKED = ("", "", _SSDP_GROUP, _SSDP_GROUP)
_WAIT_S = 0.7
# Headers of an answer have some hundred bytes.
_MAX_ANSWER_BYTES = 2048
# Version 1 is what routers of version 2 answer to as well (UPnP Device Architecture 1.1, 1.3.2).
_QUESTION = (
    "M-SEARCH * HTTP/1.1\r\n"
    f"HOST: {_SSDP_GROUP}:{SSDP_PORT}\r\n"
    'MAN: "ssdp:discover"\r\n'
    "MX: 1\r\n"
    "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
    "\r\n"
).encode()

CALL_TIMEOUT_S = 12.0
"""For a call of the library: three or four requests by TCP, which a slow router answers in a second each."""


async def find(gateway: Gateway) -> str:
    """Return where a router describes itself. Cancelling is safe.

    Raises:
        NoMapping: it does not say; the message follows the name of the router.
    """
    try:
        if importlib.util.find_spec("miniupnpc") is None:
            raise NoMapping("cannot be asked by UPnP: 'pip install miniupnpc' lets gridnode do so")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((gateway.local_host, 0))
            own = socket.inet_aton(gateway.local_host)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
            for asked in _ASKED:
                url = await _search(sock, gateway, asked or gateway.host)
                if url:
                    return url
    except OSError as exc:
        raise NoMapping(f"cannot be asked by UPnP ({exc.strerror or exc})") from exc
    raise NoMapping("does not answer to UPnP")


async def _search(sock: socket.socket, gateway: Gateway, asked: str) -> str:
    """Return what the router answers to one question; empty if nothing in time."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(sock, _QUESTION, (asked, SSDP_PORT))
    try:
        async with asyncio.timeout(_WAIT_S):
            while True:
                answer, source = await loop.sock_recvfrom(sock, _MAX_ANSWER_BYTES)
                if source[0] == gateway.host and (url := read_location(answer, gateway.host)):
                    return url
    except TimeoutError:
        return ""


def read_location(answer: bytes, host: str) -> str:
    """Return where the sender of an answer to our question describes itself; empty if not at `host`. Pure."""
    said = re.search(rb"^location:[ \t]*(http://[!-~]+)", answer, re.IGNORECASE | re.MULTILINE)
    if said is None or not answer.startswith(b"HTTP/1.1 200"):
        return ""
    url = said[1].decode("ascii")
    try:
        return url if urlsplit(url).hostname == host else ""
    except ValueError:
        return ""


async def map_port(gateway: Gateway, url: str, port: int, *, wanted: int, lease_s: int) -> Address:
    """Let a router map a UDP port, or go on doing so; return the address outside. Cancelling is safe.

    If nobody on the Internet would reach that, nothing is mapped, and the port is 0.

    Raises:
        NoMapping: it does not; the message follows the name of the router.
    """
    inside = {"local_host": gateway.local_host, "local_port": port, "lease_s": lease_s}
    answer = await _call({"url": url, "router": gateway.host, "port": wanted, **inside})
    return Address(answer["host"], answer["port"])


async def unmap(gateway: Gateway, url: str, port: int) -> None:
    """End the mapping of a port outside. Cancelling is safe.

    Raises:
        NoMapping: the router does not confirm it; the message follows its name.
    """
    await _call({"url": url, "router": gateway.host, "port": port})


async def _call(call: dict[str, Any]) -> dict[str, Any]:
    """Let `gridnode.net.igd_call` do it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gridnode.net.igd_call"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as exc:  # no memory; or another installation stands there since this process began
        raise NoMapping(f"cannot be asked by UPnP ({exc.strerror or exc})") from exc
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            said, _ = await process.communicate(json.dumps(call).encode())
        answer = json.loads(said)
    except TimeoutError:
        raise NoMapping(f"did not answer within {CALL_TIMEOUT_S:g} s by UPnP") from None
    except (ValueError, OSError) as exc:
        raise NoMapping("answered by UPnP what nobody understands") from exc
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    if "refused" in answer:
        raise NoMapping(answer["refused"])
    found: dict[str, Any] = answer
    return found
