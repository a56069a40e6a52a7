"""How the door ends WebSockets: with a code and a reason that the script of a page can read. Pure."""

from __future__ import annotations

# RFC 6455, section 7.4.1; 1013 is in IANA's registry of close codes.
NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
# RFC 6455, section 5.5: a control frame has 125 bytes, two of them are the code.
MAX_REASON_BYTES = 123


def closing_code(status: int) -> int:
    """Return the code for an error that would have this HTTP status."""
    if status in (401, 403):
        return POLICY_VIOLATION
    return TRY_AGAIN_LATER if status in (429, 503) else NORMAL_CLOSURE


def closing_reason(text: str) -> str:
    """Return as much of `text` as a closing frame has room for."""
    data = text.encode()
    if len(data) <= MAX_REASON_BYTES:
        return text
    return data[: MAX_REASON_BYTES - len("…".encode())].decode(errors="ignore") + "…"
