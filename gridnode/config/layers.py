"""Merging what was given in several places. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gridnode.config.node_config import NodeConfig
from gridnode.config.settings import settings
from gridnode.errors import BadInput

OriginName = Literal["default", "system file", "user file", "environment", "flag"]


@dataclass(frozen=True, slots=True)
class Given:
    """A value, and who gave it."""

    value: Any
    origin: OriginName = "default"
    where: str = ""
    """`path:line`, the variable or the flag."""


Layer = Mapping[str, Given]
"""Values by the names of their keys."""


def merge(*layers: Layer) -> dict[str, Given]:
    """Return every key with the value of the last layer that has one, or with its default."""
    merged = {name: Given(setting.default) for name, setting in settings().items()}
    for layer in layers:
        merged |= layer
    return merged


def to_node_config(values: Layer) -> NodeConfig:
    """Return the configuration with these values.

    Raises:
        BadInput: they do not go together.
    """
    try:
        return NodeConfig(**{settings()[name].field: given.value for name, given in values.items()})
    except ValueError as exc:
        raise BadInput(str(exc)) from exc
