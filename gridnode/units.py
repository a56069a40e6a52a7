"""Sizes and times as people write them. Inside the program: int bytes, float seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_FACTORS = {
    "": 1,
    "B": 1,
    "K": KIB,
    "KIB": KIB,
    "KB": 1000,
    "M": MIB,
    "MIB": MIB,
    "MB": 1000**2,
    "G": GIB,
    "GIB": GIB,
    "GB": 1000**3,
    "T": TIB,
    "TIB": TIB,
    "TB": 1000**4,
}


def parse_bytes(text: str) -> int:
    """Return the bytes that `text` names: `"2GiB"`, `"512M"`, `"1.5 GB"`, `"4096"`.

    Raises:
        ValueError: `text` is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _FACTORS:
        raise ValueError(f"{text!r} is not a size; write it like 2GiB or 512MiB")
    return int(float(match[1]) * _FACTORS[match[2].upper()])


_BITS_PER_S = {"KBIT": 10**3, "MBIT": 10**6, "GBIT": 10**9}


def parse_bytes_per_s(text: str) -> int:
    """Return the bytes a second that `text` names: `"2MiB/s"`, `"500 kB"`, `"20Mbit/s"`.

    Raises:
        ValueError: `text` is not a rate.
    """
    amount = re.sub(r"\s*(?:/s|ps)\s*$", "", text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]bit)", amount)
    if match is not None:
        return int(float(match[1]) * _BITS_PER_S[match[2].upper()] / 8)
    try:
        return parse_bytes(amount)
    except ValueError:
        raise ValueError(f"{text!r} is not a rate; write it like 2MiB/s or 20Mbit/s") from None


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_seconds(text: str) -> float:
    """Return the seconds that a person wrote: `90`, `30s`, `15m`, `2h`, `1d`, `1h30m`.

    Raises:
        ValueError: it is not a duration.
    """
    compact = text.strip().lower().replace(" ", "")
    parts = _DURATION.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(f"{text!r} is not a duration like 30s, 15m, 2h or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_bytes(size_bytes: float) -> str:
    """Return `size_bytes` with three significant digits: `"1.50 GiB"`."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= factor:
            value = size_bytes / factor
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{size_bytes:.0f} B"


def format_seconds(duration_s: float) -> str:
    """Return `duration_s` in the unit that suits it: `"27 µs"`, `"820 ms"`, `"14 s"`, `"3 min"`."""
    # A little less than a whole unit has a fourth digit when it is rounded.
    if 0 < duration_s < 0.9995e-3:
        return f"{duration_s * 1e6:.3g} µs"
    if duration_s < 0.9995:
        return f"{duration_s * 1000:.3g} ms"
    if duration_s < 120:
        return f"{duration_s:.3g} s"
    if duration_s < 7200:
        return f"{duration_s / 60:.0f} min"
    return f"{duration_s / 3600:.0f} h"


def format_time(time_s: float) -> str:
    """Return a time in seconds since 1970 as people of every place read it: `"2026-11-21 10:30 UTC"`."""
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"
