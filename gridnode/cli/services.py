"""What of gridnode can run as a service of systemd."""

from __future__ import annotations

from enum import StrEnum


class Service(StrEnum):
    """One of the units that ship with gridnode."""

    NODE = "node"
    RELAY = "relay"
    MONITOR = "monitor"

    @property
    def unit(self) -> str:
        """The name of the unit, without its suffix."""
        return "gridnode" if self is Service.NODE else f"gridnode-{self}"
