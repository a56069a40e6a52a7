from __future__ import annotations

import pytest

from gridnode_web.wording import MAX_SHOWN_CHARACTERS, count, milliseconds, path_class, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ada", "Ada"),
        ("  Ada \n\t Lovelace ", "Ada Lovelace"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\x1b[31mred\x07", "[31mred"),
        ("a\u200bb\ud800", "a b"),
        ("日本の計算機", "日本の計算機"),
    ],
)
def test_names_are_one_plain_line(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("path", "drawn"),
    [
        *((path, path) for path in ("direct", "lan", "punched", "relay", "none")),
        ("websocket", "relay"),
        ("of a later version", "direct"),
    ],
)
def test_links_are_drawn_by_what_carries_them(path: str, drawn: str) -> None:
    assert path_class(path) == drawn


def test_long_names_are_cut() -> None:
    assert plain("A" * 1000) == "A" * (MAX_SHOWN_CHARACTERS - 1) + "…"


def test_numbers_are_short() -> None:
    assert [count(n) for n in (0, 8192, 1_240_000, 7.5e9)] == ["0", "8,192", "1.2 M", "7.5 G"]
    assert [milliseconds(s) for s in (0.000_42, 0.0031, 0.038, 1.2)] == [
        "0.42 ms",
        "3.1 ms",
        "38 ms",
        "1200 ms",
    ]
