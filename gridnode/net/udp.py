"""A UDP socket that is read and written in batches.

asyncio's datagram transport costs one loop pass for each datagram. Here a wake-up drains the socket, and
on Linux the kernel joins datagrams of one sender into one read (GRO) and splits one write into
many (GSO, `UDP_SEGMENT`): fewer system calls are where the throughput comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import psutil

from gridnode.core.addresses import Address
from gridnode.errors import AddressInUse, BadInput
from gridnode.units import MIB

logger = logging.getLogger("gridnode.net.udp")

SocketAddress = tuple[Any, ...]
"""What the socket calls an address: (host, port) or (host, port, flow, scope). Where a socket is bound to all
addresses of this computer, the one of them that a datagram came to follows: answers leave by it, or the
other side would not know them."""

Datagram = tuple[bytes, SocketAddress]

# linux/udp.h; Python 3.11 has no names for them.
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_GRO_SIZE = struct.Struct("i")
_GSO_SIZE = struct.Struct("H")
# The kernel's UDP_MAX_SEGMENTS, and the largest UDP payload with some room for headers.
_MAX_SEGMENTS = 64
_MAX_BATCH_BYTES = 65_000
_MAX_READ_BYTES = 65_535
# Bounds the time that one wake-up may take from everything else in the loop.
_MAX_READS = 64
# linux/in.h, linux/in6.h: errors that routers and hosts answer with are kept for us to read.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
# linux/in.h, linux/in6.h: to which address of ours a datagram came, and by which one to send.
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
_PACKET_INFO = struct.Struct("i4s4s")  # interface, address to send by, address that it came to
_PACKET_INFO_6 = struct.Struct("16si")
_NO_SUCH_ADDRESS = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH})
# Two ancillary messages: the size of joined datagrams, and the address.
_MAX_ANCILLARY_BYTES = 128
# Errors read at a time; each names one destination.
_MAX_ERRORS = 16
_PORTS = range(1, 65536)
_UNREACHABLE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH})
# What says that an interface, or a size, cannot be split by the kernel.
_UNSPLITTABLE = frozenset({errno.EIO, errno.EINVAL})
# What may be the answer to an earlier datagram, perhaps to somebody else.
_LATE_ANSWERS = _UNREACHABLE | {errno.EMSGSIZE}
# linux/errqueue.h, struct sock_extended_err: number, origin, type, code, padding, information, data.
_EXTENDED_ERROR = struct.Struct("I4BII")
# linux/in.h, linux/in6.h: never split datagrams, and mind the interface only, not what was heard of the way.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE = 10, 23, 3
# netinet/in.h, netinet6/in6.h of macOS.
_IP_DONTFRAG, _IPV6_DONTFRAG = 28, 62
# 30 ms at 1 Gbit/s: what arrives while the loop is busy is kept instead of lost.
_BUFFER_BYTES = 4 * MIB
# Datagrams kept while the kernel's buffer is full; more are dropped, as a network would.
_MAX_WAITING = 4096


class DatagramSocket:
    """A bound, non-blocking UDP socket in the running loop.

    Calls `on_datagram(data, source)` for each datagram and `on_batch()` after the last one of a wake-up,
    and, on Linux, `on_unreachable(destination)` when a host says that nobody listens there (ICMP), and
    `on_too_large(destination, size_bytes)` when a router, or this computer, says how large datagrams
    may be to pass. Anybody can forge that: take it as a hint.

    Attributes:
        is_whole: Whether datagrams that are too large for the way get lost instead of being split.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_datagram: Callable[[bytes, SocketAddress], None],
        on_batch: Callable[[], None],
        on_unreachable: Callable[[SocketAddress], None] = lambda _: None,
        on_too_large: Callable[[SocketAddress, int], None] = lambda *_: None,
    ) -> None:
        self._sock = sock
        self._on_datagram = on_datagram
        self._on_batch = on_batch
        self._on_unreachable = on_unreachable
        self._on_too_large = on_too_large
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Datagram] = []
        self._has_gso = _supports(sock, _SOL_UDP, _UDP_SEGMENT, 0)
        self._has_gro = _supports(sock, _SOL_UDP, _UDP_GRO, 1)
        self.is_whole = _keep_whole(sock)
        is_ipv6 = sock.family == socket.AF_INET6
        level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if is_ipv6 else (socket.IPPROTO_IP, _IP_RECVERR)
        self._has_errors = _supports(sock, level, option, 1)
        self._address_length = 4 if is_ipv6 else 2
        self._info = (level, _IPV6_PKTINFO if is_ipv6 else _IP_PKTINFO)
        self._tells_local = ipaddress.ip_address(sock.getsockname()[0]).is_unspecified and _supports(
            sock, level, _IPV6_RECVPKTINFO if is_ipv6 else _IP_PKTINFO, 1
        )
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def address(self) -> Address:
        """Where the socket is bound, with the real port."""
        return from_socket_address(self._sock.getsockname())

    def close(self) -> None:
        """Close the socket. Safe to call more than once."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        self._waiting.clear()

    def to_socket_address(self, address: Address) -> SocketAddress:
        """Return `address` as this socket writes it; an IPv6 socket reaches IPv4 too.

        Raises:
            BadInput: not an IP address with a port, or IPv6 on an IPv4 socket.
        """
        unusable = BadInput(f"{address} is not an IP address with a port")
        try:
            ip = ipaddress.ip_address(address.host)
        except ValueError:
            raise unusable from None
        if address.port not in _PORTS:
            raise unusable
        if self._sock.family == socket.AF_INET:
            if ip.version == 6:
                raise BadInput(f"cannot reach {address} from {self.address}, which is an IPv4 address")
            return (str(ip), address.port)
        host = f"::ffff:{ip}" if ip.version == 4 else str(ip)
        try:
            [(*_, resolved)] = socket.getaddrinfo(
                host, address.port, socket.AF_INET6, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
            )
        except OSError:
            raise unusable from None  # a zone of another computer
        return resolved

    def plain(self, source: SocketAddress) -> SocketAddress:
        """Return `source` without the address of this computer that it sent to."""
        return source[: self._address_length]

    # --- receiving ---

    def _read(self) -> None:
        receive = self._receive_message if self._has_gro or self._tells_local else self._receive_one
        count = 0
        try:
            while count < _MAX_READS:
                receive()
                count += 1
        except (BlockingIOError, InterruptedError):
            if not count:
                self._read_errors()  # that is what woke us
        except OSError as exc:
            # Errors of earlier sends (ICMP) surface here; the next read goes on.
            logger.debug("reading from %s: %s", self._sock, exc)
            self._read_errors()
        self._on_batch()

    def _read_errors(self) -> None:
        """Pass on what became of earlier datagrams."""
        if not self._has_errors:
            return
        with contextlib.suppress(OSError):
            for _ in range(_MAX_ERRORS):
                _, ancillary, _, destination = self._sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
                number, size_bytes = _read_extended_error(ancillary)
                if number == errno.EMSGSIZE:
                    self._on_too_large(destination, size_bytes)
                else:
                    self._on_unreachable(destination)

    def _receive_one(self) -> None:
        self._on_datagram(*self._sock.recvfrom(_MAX_READ_BYTES))

    def _receive_message(self) -> None:
        data, ancillary, _, source = self._sock.recvmsg(_MAX_READ_BYTES, _MAX_ANCILLARY_BYTES)
        size = len(data) or 1
        for level, kind, value in ancillary:
            if level == _SOL_UDP and kind == _UDP_GRO:
                size = _GRO_SIZE.unpack_from(value)[0]
            elif (level, kind) == self._info:
                is_ipv6 = kind == _IPV6_PKTINFO
                local = _PACKET_INFO_6.unpack(value)[0] if is_ipv6 else _PACKET_INFO.unpack(value)[2]
                source = (*source, local)
        for start in range(0, len(data), size):
            self._on_datagram(data[start : start + size], source)

    # --- sending ---

    def send(self, datagrams: list[Datagram]) -> OSError | None:
        """Send `datagrams` in order. Return the error of the last one that the kernel refused, if any."""
        if self._waiting:
            self._waiting += datagrams[: _MAX_WAITING - len(self._waiting)]
            return None
        return self._send_all(datagrams)

    def send_near(self, data: bytes, destination: SocketAddress, *, hops: int) -> None:
        """Send one datagram that passes at most `hops` routers. It may get lost, like every datagram.

        It never waits for the kernel's buffer: what was kept would pass as many routers as there are.
        """
        if self._waiting:
            return
        is_ipv6 = self._sock.family == socket.AF_INET6 and not destination[0].startswith("::ffff:")
        option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if is_ipv6 else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        usual = self._sock.getsockopt(*option)
        self._sock.setsockopt(*option, hops)
        try:
            self._send_all([(data, destination)])
        finally:
            self._waiting.clear()
            self._sock.setsockopt(*option, usual)

    def _send_all(self, datagrams: list[Datagram]) -> OSError | None:
        failure: OSError | None = None
        is_second_try = False
        start = 0
        while start < len(datagrams):
            end = _batch_end(datagrams, start) if self._has_gso else start + 1
            try:
                self._send_batch(datagrams[start:end])
            except (BlockingIOError, InterruptedError):
                self._waiting = datagrams[start : start + _MAX_WAITING]
                self._loop.add_writer(self._sock.fileno(), self._resume)
                return failure
            except OSError as exc:
                if exc.errno in _NO_SUCH_ADDRESS and self._has_local(datagrams[start][1]):
                    # This computer has lost that address: send by another one.
                    length = self._address_length
                    datagrams = [*datagrams[:start], *((data, to[:length]) for data, to in datagrams[start:])]
                    continue
                if exc.errno in _LATE_ANSWERS:
                    self._read_errors()
                    if not is_second_try:
                        is_second_try = True  # this one was not sent
                        continue
                elif exc.errno in _UNSPLITTABLE and end - start > 1:
                    # Never again, then. Other errors pass: the network may be gone for a moment.
                    logger.info("sending without segmentation offload from now on: %s", exc)
                    self._has_gso = False
                    continue
                failure = exc
            is_second_try = False
            start = end
        return failure

    def _has_local(self, address: SocketAddress) -> bool:
        return len(address) > self._address_length

    def _send_batch(self, batch: list[Datagram]) -> None:
        data, destination = batch[0]
        ancillary = [(_SOL_UDP, _UDP_SEGMENT, _GSO_SIZE.pack(len(data)))] if len(batch) > 1 else []
        if self._has_local(destination):
            destination, local = destination[:-1], destination[-1]
            is_ipv6 = self._info[1] == _IPV6_PKTINFO
            info = _PACKET_INFO_6.pack(local, 0) if is_ipv6 else _PACKET_INFO.pack(0, local, bytes(4))
            ancillary.append((*self._info, info))
        if ancillary:
            self._sock.sendmsg([piece for piece, _ in batch], ancillary, 0, destination)
        else:
            self._sock.sendto(data, destination)

    def _resume(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        waiting, self._waiting = self._waiting, []
        self._send_all(waiting)


def _batch_end(datagrams: list[Datagram], start: int) -> int:
    """Return the end of the datagrams from `start` that one segmented write can carry.

    They have one destination and one size; only the last may be shorter.
    """
    data, destination = datagrams[start]
    size = len(data)
    limit = min(len(datagrams), start + max(1, min(_MAX_SEGMENTS, _MAX_BATCH_BYTES // size)))
    end = start + 1
    while end < limit and datagrams[end][1] == destination and len(datagrams[end][0]) <= size:
        end += 1
        if len(datagrams[end - 1][0]) < size:
            break
    return end


def _read_extended_error(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Return the number of an error, and how large a datagram may be if it was too large."""
    for level, kind, value in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            number, *_, packet_bytes, _ = _EXTENDED_ERROR.unpack_from(value)
            headers_bytes = 48 if level == socket.IPPROTO_IPV6 else 28  # of IP and UDP
            return number, packet_bytes - headers_bytes
    return 0, 0


def _keep_whole(sock: socket.socket) -> bool:
    """Let nobody split the datagrams of a socket; return whether that can be had here."""
    if sys.platform == "linux":
        four, six, value = _IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE
    elif sys.platform == "darwin":
        four, six, value = _IP_DONTFRAG, _IPV6_DONTFRAG, 1
    else:
        return False
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, six, value)
            if sys.platform != "linux":
                return True
        sock.setsockopt(socket.IPPROTO_IP, four, value)  # of an IPv6 socket, for IPv4 seen through IPv6
    except OSError:
        return False
    return True


def _supports(sock: socket.socket, level: int, option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False  # the same numbers may mean something else there
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def from_socket_address(source: SocketAddress) -> Address:
    """Return what a socket calls `source` as an address; IPv4 seen through IPv6 is IPv4 again."""
    host: str = source[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, source[1])


def bind_udp(address: Address) -> socket.socket:
    """Return a UDP socket bound to `address`; port 0 takes a free one, `::` takes IPv4 too.

    Raises:
        AddressInUse: another process holds the port.
        BadInput: this machine does not have the address, or may not bind it.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        sock.bind((address.host, address.port))
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise AddressInUse(_describe_owner(address)) from exc
        raise BadInput(f"cannot listen on UDP {address}: {exc.strerror or exc}") from exc
    return sock


def _describe_owner(address: Address) -> str:
    """Return a message for a port in use that names who holds it, if the system tells."""
    owner = "another process"
    try:
        for connection in psutil.net_connections("udp"):
            if connection.laddr and connection.laddr.port == address.port and connection.pid:
                owner = f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
                break
    except psutil.Error:
        pass  # other users' processes are hidden from us; the message works without a name
    return (
        f"UDP port {address.port} on {address.host} is held by {owner}; "
        f"stop it, or choose another port with --listen (port 0 takes a free one)"
    )
