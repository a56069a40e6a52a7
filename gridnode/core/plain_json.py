"""JSON that every reader takes: not all that Python's `json` reads is."""

from __future__ import annotations

import json
from typing import Any


def parse_plain(text: str) -> Any:
    """Return what `text` says (RFC 8259).

    Raises:
        ValueError: it is no JSON, or has NaN or half a surrogate pair, or is nested too deeply: nobody could
            be told of it in JSON.
    """
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # 1e999 is infinity, too
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
