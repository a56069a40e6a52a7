"""Every key of the configuration, read off `NodeConfig`: names, types, defaults and words."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from typing import Any

from gridnode.config.field_docs import field_docs
from gridnode.config.keys import SECTIONS
from gridnode.config.kinds import Kind, kind_of
from gridnode.config.node_config import NodeConfig

_CLOSE = 0.6  # difflib's own idea of similar


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of the configuration."""

    field: str
    """Field of `NodeConfig`."""

    section: str
    key: str
    flag: str
    metavar: str
    kind: Kind
    make_default: Callable[[], Any]
    doc: str
    """What it means, for people."""

    unset: str
    """What no value means, for people; empty if there always is one."""

    shown_default: str
    is_live: bool
    """Whether a running node takes a new value when it gets SIGHUP."""

    @property
    def name(self) -> str:
        """The key with its section: `"serve.model"`."""
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"GRIDNODE_{self.section}_{self.key}".upper()

    @property
    def default(self) -> Any:
        """The value that counts when nobody gave one; that of a path depends on the environment."""
        return self.make_default()

    @property
    def described_default(self) -> str:
        """The default in words; empty if there is nothing to say."""
        if self.shown_default or self.default is None:
            return self.shown_default or self.unset
        shown = self.kind.write_toml(self.default)
        if isinstance(shown, bool):
            return str(shown).lower()
        return ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown)

    def check(self, value: Any) -> Any:
        """Return `value` if a configuration may have it.

        Raises:
            ValueError: it may not.
        """
        NodeConfig(**{self.field: value})
        return value


@cache
def settings() -> Mapping[str, Setting]:
    """Return every setting by its name, section by section."""
    types = typing.get_type_hints(NodeConfig)
    docs = field_docs(NodeConfig)
    found = []
    for field in fields(NodeConfig):
        meta = field.metadata
        factory = field.default_factory
        make_default = partial(_same, field.default) if factory is MISSING else factory
        kind = kind_of(types[field.name], name=field.name, default=field.default)
        key = str(meta.get("name") or field.name)
        found.append(
            Setting(
                field=field.name,
                section=str(meta.get("section", "node")),
                key=key,
                flag=str(meta.get("flag") or f"--{key.replace('_', '-')}"),
                metavar=str(meta.get("metavar") or kind.metavar),
                kind=kind,
                make_default=make_default,
                doc=docs.get(field.name, ""),
                unset=str(meta.get("unset", "")),
                shown_default=str(meta.get("shown_default", "")),
                is_live=bool(meta.get("live", False)),
            )
        )
    order = list(SECTIONS)
    found.sort(key=lambda setting: order.index(setting.section))
    return {setting.name: setting for setting in found}


def live_values(config: NodeConfig) -> dict[str, Any]:
    """Return the fields of `config` that a running node takes over, with their values."""
    return {
        setting.field: getattr(config, setting.field) for setting in settings().values() if setting.is_live
    }


def nearest(name: str) -> str | None:
    """Return the key that somebody who wrote `name` probably meant, or None."""
    key = name.rpartition(".")[2]

    def likeness(setting: Setting) -> tuple[float, float]:
        return max(_alike(key, setting.key), _alike(key, setting.field)), _alike(name, setting.name)

    best = max(settings().values(), key=likeness)
    return best.name if likeness(best)[0] >= _CLOSE else None


def _same(value: Any) -> Any:
    return value


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
