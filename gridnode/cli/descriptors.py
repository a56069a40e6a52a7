"""How many files and sockets a process that serves others may have open."""

from __future__ import annotations

import contextlib
import resource

WANTED_DESCRIPTORS = 8192
"""More than all that is limited adds up to: WebSockets of a relay, lanes, and who asks at the door. Every
system lets a process have so many; macOS 10240 at most."""


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may need, as far as its system allows.

    The usual limit, 1024 on Linux and 256 on macOS, is that of programs with `select`, which knows no higher
    numbers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(WANTED_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system that allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
