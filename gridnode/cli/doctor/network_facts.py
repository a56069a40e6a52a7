"""Measuring the network: on loopback, and with one multicast question on the networks of this computer."""

from __future__ import annotations

import socket
import struct
import sys
import time

import psutil

from gridnode.cli.doctor.network import Attempt, NetworkFacts
from gridnode.config import NodeConfig
from gridnode.control.door_server import bind_tcp
from gridnode.core.addresses import Address, parse_address
from gridnode.errors import GridError
from gridnode.net.discovery import SERVICE_TYPE
from gridnode.net.interfaces import bind_host, is_virtual, local_addresses, reachable_addresses
from gridnode.net.udp import bind_udp

# RFC 6762, section 3.
_MDNS_GROUP = ("224.0.0.251", 5353)
# RFC 1035, sections 3.2 and 4.1: one question for pointers (12) of the Internet (1).
_HEADER = struct.pack("!6H", 0, 0, 1, 0, 0, 0)
_POINTERS = struct.pack("!2H", 12, 1)
_ECHO_TIMEOUT_S = 1.0
# A computer with more addresses is a router; the first ones tell enough.
_MAX_ECHOES = 4


def measure_network(config: NodeConfig, *, running_pid: int | None, running_listen: str) -> NetworkFacts:
    """Return the facts of the network.

    Args:
        running_pid: Process of the node that runs here, if one does: it holds both ports.
        running_listen: Where its QUIC listens, as far as it is known.
    """
    problem, listen = "", config.listen
    try:
        if running_pid is not None:
            listen = parse_address(running_listen)
        elif config.bind:
            listen = Address(bind_host(config.bind), listen.port)
        if running_pid is None:
            bind_udp(listen).close()
    except GridError as exc:
        problem = str(exc)
    locals_ = local_addresses(listen.host)
    hosts = [local.host for local in locals_ if ":" not in local.host]
    return NetworkFacts(
        listen=listen,
        udp_port_problem=problem,
        door=config.api,
        door_problem="" if running_pid is not None else _door_problem(config.api),
        running_pid=running_pid,
        echoes=tuple(map(_echo, ["127.0.0.1", *hosts[: _MAX_ECHOES - 1]])),
        addresses=reachable_addresses(listen),
        ipv6_hosts=tuple(local.host for local in local_addresses("::") if ":" in local.host),
        ignored_interfaces=tuple(sorted(filter(is_virtual, psutil.net_if_addrs()))),
        mdns=config.mdns,
        multicasts=tuple(
            _ask_everybody(local.host)
            for local in locals_
            if config.mdns and local.has_multicast and ":" not in local.host
        ),
        platform=sys.platform,
    )


def _door_problem(address: Address) -> str:
    try:
        bind_tcp(address).close()
    except GridError as exc:
        return str(exc)
    return ""


def _echo(host: str) -> Attempt:
    """Send a datagram from one of our addresses to itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_ECHO_TIMEOUT_S)
        try:
            sock.bind((host, 0))
            began = time.perf_counter()
            sock.sendto(b"gridnode doctor", sock.getsockname())
            sock.recv(64)
        except TimeoutError:
            return Attempt(host=host, problem=f"nothing came back within {_ECHO_TIMEOUT_S:g} s")
        except OSError as exc:
            return Attempt(host=host, problem=exc.strerror or str(exc), error_number=exc.errno or 0)
        return Attempt(host=host, rtt_s=time.perf_counter() - began)


def _ask_everybody(host: str) -> Attempt:
    """Ask the network of one of our addresses for nodes, as a node does; nobody waits for the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
            sock.sendto(mdns_question(), _MDNS_GROUP)
        except OSError as exc:
            return Attempt(host=host, problem=exc.strerror or str(exc), error_number=exc.errno or 0)
    return Attempt(host=host)


def mdns_question() -> bytes:
    """Return a packet that asks who serves `SERVICE_TYPE`. Pure."""
    labels = SERVICE_TYPE.encode().split(b".")  # the last one is empty, as the end must be
    return _HEADER + b"".join(bytes([len(label)]) + label for label in labels) + _POINTERS
