"""How a field of the configuration says where it stands in files, environment and help."""

from __future__ import annotations

SECTIONS = {
    "serve": "What to serve",
    "swarm": "Whom to meet",
    "limits": "What to use",
    "when": "When to serve",
    "api": "The door",
    "node": "This node",
    "log": "What is logged",
}
"""Sections of the files, in order, with their titles."""


def key(
    section: str = "node",
    name: str = "",
    *,
    flag: str = "",
    metavar: str = "",
    unset: str = "",
    shown_default: str = "",
    live: bool = False,
) -> dict[str, object]:
    """Return the metadata of a field of `NodeConfig`.

    Args:
        section: Table in the TOML file.
        name: Key in it; empty takes the field's name.
        flag: Flag of `gridnode up`; empty takes `--` and the key.
        metavar: Stands for the value in the help; empty takes that of the type.
        unset: What None means, for people.
        shown_default: What to show instead of a default that depends on the machine.
        live: A running node takes a new value when it gets SIGHUP.
    """
    return {
        "section": section,
        "name": name,
        "flag": flag,
        "metavar": metavar,
        "unset": unset,
        "shown_default": shown_default,
        "live": live,
    }
