"""One number for two sockets: the UDP port of QUIC, and the TCP port of lanes."""

from __future__ import annotations

import logging
import socket

from gridnode.core.addresses import Address
from gridnode.net.udp import bind_udp

logger = logging.getLogger("gridnode.net.lanes")

MAX_ATTEMPTS = 16
"""A port that is free for UDP may be taken on TCP, by any connection of this computer."""


def bind_twice(bind: Address) -> tuple[socket.socket, socket.socket | None]:
    """Return sockets for UDP and TCP at `bind`, where port 0 takes one that is free for both.

    There is none for TCP if the port that was asked for is taken: everything works without lanes, only
    slower.

    Raises:
        AddressInUse: another process holds the UDP port.
        BadInput: this machine does not have the address, or may not bind it.
    """
    attempts_left = 1 if bind.port else MAX_ATTEMPTS
    while True:
        udp = bind_udp(bind)
        chosen = Address(bind.host, udp.getsockname()[1])
        attempts_left -= 1
        try:
            return udp, _listen_tcp(chosen)
        except OSError as exc:
            if not attempts_left:
                logger.info("no lanes: cannot listen on TCP %s: %s", chosen, exc.strerror or exc)
                return udp, None
            udp.close()


def _listen_tcp(bind: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    return socket.create_server(
        (bind.host, bind.port), family=family, backlog=64, dualstack_ipv6=family == socket.AF_INET6
    )
