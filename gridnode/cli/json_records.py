"""What commands print with `--json`, where it is not the door's own answer.

Fields are added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

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
