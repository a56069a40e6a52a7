"""The clock of everything on the network."""

from __future__ import annotations

import time

now_s = time.monotonic
"""In seconds; the loop's own clock is cached by uvloop in steps of 1 ms."""
