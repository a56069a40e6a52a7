"""Whether the peer of a connection is still there: how long it was silent, and what makes one doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gridnode.net.clock import now_s
from gridnode.net.quic_settings import QuicSettings

# A timer that comes so late says that this process was kept from running.
_LATENESS_S = 0.1


class Liveness:
    """Pings a silent peer, and finds out that it is gone.

    Args:
        ping: Sends a ping.
    """

    def __init__(self, settings: QuicSettings, *, ping: Callable[[], None]) -> None:
        self.started_at = self._heard_at = self._pinged_at = now_s()
        self._settings = settings
        self._ping = ping
        self._loop = asyncio.get_running_loop()
        self._suspicion: asyncio.TimerHandle | None = None

    def heard(self, now: float) -> None:
        """Take the news that something of the peer has arrived."""
        self._heard_at = now

    def silence_s(self, now: float) -> float:
        """Return for how long nothing has come."""
        return now - self._heard_at

    def keep_alive(self, now: float, *, is_busy: bool) -> None:
        """Ping a peer that was silent for long. To be called about once a second.

        Args:
            is_busy: Whether somebody waits for it.
        """
        settings = self._settings
        interval_s = settings.busy_ping_interval_s if is_busy else settings.idle_ping_interval_s
        if min(self.silence_s(now), now - self._pinged_at) >= interval_s:
            self._pinged_at = now
            self._ping()

    def suspect(self, give_up: Callable[[], None], *, patience_s: float, may_ping: bool) -> None:
        """Call `give_up` if nothing comes for `patience_s`. One suspicion at a time is enough."""
        if self._suspicion is not None:
            return
        heard_at = self._heard_at
        due_at = self._loop.time() + patience_s

        def conclude() -> None:
            nonlocal due_at
            self._suspicion = None
            if self._heard_at != heard_at:
                return
            if self._loop.time() - due_at > _LATENESS_S:
                # This process was not running either; what the peer said may still be in the socket.
                due_at = self._loop.time() + patience_s
                self._suspicion = self._loop.call_later(patience_s, conclude)
                return
            give_up()

        self._suspicion = self._loop.call_later(patience_s, conclude)
        if may_ping:
            self._ping()

    def stop(self) -> None:
        """Suspect nobody any more. Safe to call more than once."""
        if self._suspicion is not None:
            self._suspicion.cancel()
            self._suspicion = None
