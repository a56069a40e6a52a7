"""Where programs on other computers keep the key that opens a door to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gridnode.errors import BadInput, reason

KEY_VARIABLE = "GRIDNODE_API_KEY"
FILE_VARIABLE = "GRIDNODE_API_KEY_FILE"
"""Names a file with nothing but the key in it."""

# A key has 55 characters; whatever is much longer is another file.
MAX_FILE_BYTES = 4096


def client_key(environ: Mapping[str, str]) -> str:
    """Return the key to show at the door; empty if there is none.

    It never comes from the command line, which every user of a computer can read.

    Raises:
        BadInput: the file cannot be read, or holds no key.
    """
    key = environ.get(KEY_VARIABLE, "").strip()
    if key or not environ.get(FILE_VARIABLE):
        return _checked(key, KEY_VARIABLE)
    path = Path(environ[FILE_VARIABLE]).expanduser()
    try:
        with path.open("rb") as file:
            key = file.read(MAX_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"cannot read the key in {path}, which {FILE_VARIABLE} names: {reason(exc)}") from exc
    if not key:
        raise BadInput(f"there is no key in {path}, which {FILE_VARIABLE} names")
    return _checked(key, str(path))


def _checked(key: str, origin: str) -> str:
    """Return `key` if it can stand in a header; never repeat what it is instead."""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise BadInput(f"what {origin} holds is not a key; keys look like gn-... and have no blanks")
    return key
