"""Telling systemd how the node is: ready, alive, and what it does (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from gridnode.control.readiness import readiness
from gridnode.control.status_schema import NodeStatus

# How often the status is looked at when there is no watchdog to feed.
LOOK_INTERVAL_S = 1.0


class ServiceManager:
    """What started this process as a service, if anything did; without one, nothing is told.

    Args:
        status: Returns what the node is doing.
    """

    def __init__(self, status: Callable[[], NodeStatus]) -> None:
        self._status = status
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._told = ""
        self._is_ready = False

    async def run(self) -> None:
        """Tell until cancelled. Coming from the event loop, the sign of life shows that it turns."""
        if not self._address:
            return
        while True:
            self._tell(self._status())
            await asyncio.sleep(watchdog_interval_s(os.environ))

    def stopping(self) -> None:
        """Tell that the process is about to end."""
        self._notify("STOPPING=1\nSTATUS=leaving the swarm")

    def _tell(self, status: NodeStatus) -> None:
        lines = ["WATCHDOG=1"]
        if not self._is_ready and is_serving(status):
            self._is_ready = True
            lines.append("READY=1")
        text = summary(status)
        if text != self._told:
            self._told = text
            lines.append(f"STATUS={text}")
        self._notify("\n".join(lines))

    def _notify(self, state: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the zero byte of an abstract name.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)


def watchdog_interval_s(environment: dict[str, str] | os._Environ[str]) -> float:
    """Return how long to wait between two signs of life: a third of what the watchdog allows."""
    allowed_us = environment.get("WATCHDOG_USEC", "")
    return min(int(allowed_us) / 3e6, LOOK_INTERVAL_S) if allowed_us.isdigit() else LOOK_INTERVAL_S


def is_serving(status: NodeStatus) -> bool:
    """Return whether the start is complete: the blocks are served, or there are none to serve."""
    return readiness(status).ready or (status.engine.state == "none" and status.state != "joining")


def summary(status: NodeStatus) -> str:
    """Return what the node does in one line, as `systemctl status` shows it."""
    others = sum(1 for peer in status.peers if not peer.is_self)
    serving = next((peer.serving for peer in status.peers if peer.is_self), None)
    doing = readiness(status).reason
    if serving is not None and status.state == "online":
        doing = (
            f"serving blocks {serving.start}:{serving.end} of {serving.num_blocks} of {serving.model}, "
            f"{status.open_sessions} sessions"
        )
    return f"{doing}; {others} other nodes in swarm {status.swarm}".replace("\n", " ")
