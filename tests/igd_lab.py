"""Routers that map ports for the computers of a home: miniupnpd, as most of them have it inside."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nat_lab
from nat_lab import Internet, inside
from waiting import eventually

HOME = "192.168.1.0/24"
EVERYTHING = f"allow 1024-65535 {HOME} 1024-65535"


def why_not() -> str:
    """Return why there can be no such routers here; empty if there can."""
    if shutil.which("miniupnpd") is None:
        return "the command miniupnpd is missing"
    return nat_lab.why_not()


@contextlib.contextmanager
def mapping_router(
    internet: Internet, name: str, directory: Path, *, by: str, rule: str = EVERYTHING, lease: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Let the router of a site map ports.

    Args:
        by: `natpmp` or `upnp`.
        rule: Which ports, in the words of miniupnpd.
        lease: What it maps from the beginning, as in its file of leases.
    """
    router = internet.router(name)
    inside(router, "nft", "-f", "-", stdin=_RULES)
    configuration = directory / f"{name}-miniupnpd.conf"
    leases = directory / f"{name}-leases.txt"
    leases.write_text(f"{lease}\n")
    lines = [
        f"lease_file={leases}",
        "ext_ifname=wan",
        "listening_ip=lan",
        f"enable_natpmp={'yes' if by == 'natpmp' else 'no'}",
        f"enable_upnp={'yes' if by == 'upnp' else 'no'}",
        "secure_mode=yes",
        "uuid=4d696e69-7570-6e70-6420-677269646e6f",
        "upnp_table_name=igd",
        "upnp_nat_table_name=igd",
        rule,
        "deny 0-65535 0.0.0.0/0 0-65535",
    ]
    configuration.write_text("\n".join(lines) + "\n")
    with (directory / f"{name}-miniupnpd.txt").open("wb") as log:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", router, "miniupnpd", "-d", "-f", str(configuration)),
                *("-P", str(directory / f"{name}-miniupnpd.pid")),
            ],
            stdout=log,
            stderr=log,
        )
    with process:
        try:
            wait_for_port(router, 5351 if by == "natpmp" else 1900)
            yield process
        finally:
            process.terminate()
            process.wait()
            inside(router, "nft", "delete", "table", "inet", "igd")


_RULES = """
table inet igd {
  chain forward { type filter hook forward priority 0; jump miniupnpd; }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
insert rule ip filter through ct status dnat accept
"""


def wait_for_port(router: str, port: int) -> None:
    """Wait until somebody listens on a UDP port of a router."""

    def listens() -> bool:
        found = subprocess.run(
            ["ip", "netns", "exec", router, "ss", "-Hlun", f"sport = :{port}"],
            capture_output=True,
            check=True,
        )
        return bool(found.stdout.strip())

    eventually(listens, timeout_s=20)


def mapped_ports(internet: Internet, name: str) -> str:
    """Return what the router of a site maps, as nft lists it."""
    found = subprocess.run(
        [
            *("ip", "netns", "exec", internet.router(name)),
            *("nft", "list", "chain", "inet", "igd", "prerouting_miniupnpd"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout
