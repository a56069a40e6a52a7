"""What commands print with `--json`, where it is not the door's own answer.

Fields are added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.control.schema import (
    EngineStatus,
    ModelStatus,
    NodeStatus,
    PeerStatus,
    ServingStatus,
    SessionStatus,
)

ConfigData = str | bool | int | float | list[str | bool | int | float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigValue:
    """One key of the configuration: `config get`."""

    key: str
    value: ConfigData
    """As in a TOML file; null if there is none."""

    origin: str
    """`default`, `system file`, `user file`, `environment` or `flag`."""

    where: str
    """`path:line` or the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigValues:
    """`config show`."""

    values: tuple[ConfigValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """What a key takes and means."""

    key: str
    takes: str
    default: ConfigData
    variable: str
    """The environment variable."""

    flag: str
    """The flag of `gridnode up`."""

    live: bool
    """Whether SIGHUP gives a new value to a running node."""

    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKeys:
    """`config keys`."""

    keys: tuple[ConfigKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPaths:
    """`config path`."""

    user: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """`peers`."""

    peers: tuple[PeerStatus, ...]
    """The node that answers first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """`models`."""

    models: tuple[ModelStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`ps`."""

    engine: EngineStatus
    serving: ServingStatus | None
    """Null if the node serves no blocks."""

    sessions: tuple[SessionStatus, ...]
    total_cache_tokens: int
    uptime_s: float


def loaded_of(status: NodeStatus) -> Loaded:
    """Return what the node that told `status` has loaded."""
    return Loaded(
        engine=status.engine,
        serving=status.peers[0].serving if status.peers and status.peers[0].is_self else None,
        sessions=status.sessions,
        total_cache_tokens=status.total_cache_tokens,
        uptime_s=status.uptime_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line of the log: `logs`, and `up --log-format json`."""

    time: str
    """ISO 8601, UTC."""

    level: str
    logger: str
    pid: int
    """Process: the node or its engine worker."""

    message: str
    exception: str = ""
    """Traceback."""
