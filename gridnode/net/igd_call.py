"""One call of the library miniupnpc, in a process of its own: JSON comes in and goes out.

The library waits without an end for a router that sends slowly, takes answers of any length, and reads their
XML in C. Here all that has a limit, and ends with this process.
"""

from __future__ import annotations

import ipaddress
import json
import random
import resource
import sys
from typing import Any, Protocol
from urllib.parse import urlsplit

# Of data; Python and the library take 20 MiB, the description of a router some kilobytes.
_MAX_MEMORY_BYTES = 128 * 1024 * 1024
# Ports outside that are tried: another computer of the house may hold the first one.
_MAX_PORTS = 4
# Those that nobody expects anything at (RFC 6335, 6).
_FREE_PORTS = range(49152, 65536)
_NAME = "gridnode"
# A name of the DNS may be longer; this is for people.
_MAX_SHOWN_CHARACTERS = 64
# What the library says instead of the numbers that UPnP has: 725, 718 and 729.
_NO_LEASES = "OnlyPermanentLeasesSupported"
_TAKEN = frozenset({"ConflictInMappingEntry", "ConflictWithOtherMechanisms"})


class Refused(Exception):
    """The router does not do it; the message follows its name."""


class Igd(Protocol):
    """What is used of `miniupnpc.UPnP`."""

    def selectigd(self, url: str) -> str:
        """Read the description of a router; return where it takes commands."""
        ...

    def externalipaddress(self) -> str:
        """Return its address on the Internet."""
        ...

    def addportmapping(self, *arguments: object) -> bool:
        """Map: port outside, protocol, host and port inside, name, who may use it, seconds."""
        ...

    def deleteportmapping(self, port: int, protocol: str) -> bool:
        """End a mapping."""
        ...


def carry_out(igd: Igd, call: dict[str, Any]) -> dict[str, Any]:
    """Return the router's answer to `call`.

    Args:
        call: `url` of the router's description, its `router` address, and `port` outside; to map it, also
            `local_host`, `local_port` and `lease_s`.

    Raises:
        Refused: it does not do it.
    """
    try:
        control = urlsplit(igd.selectigd(call["url"])).hostname
        if control != call["router"]:
            raise Refused(f"names {control!r:.{_MAX_SHOWN_CHARACTERS}} for UPnP instead of itself")
        if "local_port" not in call:
            igd.deleteportmapping(call["port"], "UDP")
            return {}
        host = _outside(igd)
        # A port of a router that nobody reaches is not worth mapping.
        return {"host": host, "port": _add(igd, call) if ipaddress.ip_address(host).is_global else 0}
    except Refused:
        raise
    except Exception as exc:  # the library raises nothing narrower
        raise Refused(f"refuses by UPnP: {exc}") from exc


def _outside(igd: Igd) -> str:
    """Return the router's address on the Internet; 0.0.0.0 if it has none."""
    try:
        return str(ipaddress.IPv4Address(igd.externalipaddress()))
    except ValueError:
        return "0.0.0.0"


def _add(igd: Igd, call: dict[str, Any]) -> int:
    """Map the wanted port, or another one if that is taken; return it."""
    ports = [call["port"], *random.sample(_FREE_PORTS, _MAX_PORTS - 1)]
    lease_s = call["lease_s"]
    while True:
        inside = (call["local_host"], call["local_port"])
        try:
            igd.addportmapping(ports[0], "UDP", *inside, _NAME, "", lease_s)
            return int(ports[0])
        except Exception as exc:
            if str(exc) == _NO_LEASES and lease_s:
                lease_s = 0
            elif str(exc) in _TAKEN and len(ports) > 1:
                del ports[0]
            else:
                raise


def main() -> None:
    """Read a call from standard input; write the answer, or `refused`, to standard output."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    call = json.load(sys.stdin)
    from miniupnpc import UPnP

    try:
        answer = carry_out(UPnP(), call)
    except Refused as exc:
        answer = {"refused": str(exc)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
