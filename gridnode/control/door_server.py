"""Opening the door: one TCP port, served inside the node's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from gridnode.control.door import create_door
from gridnode.control.door_policy import THIS_COMPUTER, DoorPolicy
from gridnode.control.guard import MAX_REQUESTS
from gridnode.control.interface import NodeControl
from gridnode.core.addresses import Address, at_home, is_loopback, is_unspecified
from gridnode.errors import AddressInUse, BadInput
from gridnode.units import MIB

logger = logging.getLogger("gridnode.control.door")

# Those that do nothing, and those of this computer, which sees how its node is also when it is full.
SPARE_CONNECTIONS = 64
# Answers end when told that the node stops; whoever does not read their end is not waited for.
MAX_GOODBYE_S = 2
# One turn of a conversation over a WebSocket; whole documents go over HTTP.
MAX_MESSAGE_BYTES = MIB
# As Petals pinged: before proxies take a silent socket for a dead one.
PING_INTERVAL_S = 25.0


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals to whoever runs the event loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_door(
    control: NodeControl,
    address: Address,
    *,
    pages: Sequence[BaseRoute] = (),
    policy: DoorPolicy = THIS_COMPUTER,
) -> AsyncIterator[Address]:
    """Serve the door of `control` inside the block; yield the address with its real port.

    Whatever the address, this computer reaches the door at 127.0.0.1 too: the command line is used there
    without a key. The port is bound before anything else happens. Leaving the block:
    1. ends running answers, each with an event `failed`,
    2. closes the connections and the port.

    Raises:
        AddressInUse: another process holds the port.
        BadInput: this machine does not have the address.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(bind_tcp(address))]
        bound = Address(address.host, sockets[0].getsockname()[1])
        if not (is_loopback(bound) or is_unspecified(bound)):
            sockets.append(stack.enter_context(bind_tcp(at_home(bound))))
        app = create_door(control, pages=pages, policy=policy)
        async with serving(app, sockets):
            logger.info("door open at http://%s", bound)
            try:
                yield bound
            finally:
                app.state.closing.set()


@contextlib.asynccontextmanager
async def serving(app: Starlette, sockets: list[socket.socket]) -> AsyncIterator[None]:
    """Answer HTTP at `sockets` with `app` inside the block; then close the connections and the sockets."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_INTERVAL_S,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_REQUESTS + SPARE_CONNECTIONS,
        timeout_graceful_shutdown=MAX_GOODBYE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets), name="door")  # awaited below
    try:
        yield
    finally:
        server.should_exit = True
        await task


def bind_tcp(address: Address, *, option: str = "--api") -> socket.socket:
    """Return a TCP socket that listens on `address`; port 0 takes a free one.

    Args:
        option: Where the address can be given, for the message.

    Raises:
        AddressInUse: another process holds the port.
        BadInput: this machine does not have the address.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        sock.setblocking(False)
        # A restarted node takes its port back while old connections are still in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.host == "::":
            # One socket for both families, whatever the system's default.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address.host, address.port))
        sock.listen()
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"TCP port {address.port} on {address.host} is held by {port_holder(address.port)}; "
                f"stop it, or choose another port with {option} (port 0 takes a free one)"
            ) from exc
        raise BadInput(f"cannot listen on TCP {address}: {exc.strerror or exc}") from exc
    return sock


def port_holder(port: int) -> str:
    """Return who listens on a TCP port, as far as the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens_at = connection.laddr.port if connection.laddr else None
            if connection.status == psutil.CONN_LISTEN and listens_at == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # other users' processes are hidden from us; the message works without a name
    return "another process"
