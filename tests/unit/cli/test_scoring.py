from __future__ import annotations

import io

import pytest

from gridnode.cli.scoring import read_lines
from gridnode.errors import BadInput


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_lines_that_are_not_utf8_are_refused_whatever_the_locale(
    errors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(given: bytes) -> list[tuple[int, str]]:
        piped = io.TextIOWrapper(io.BytesIO(given), encoding="ascii", errors=errors)
        monkeypatch.setattr("sys.stdin", piped)
        return read_lines("-")

    assert read("Grüße\r\n\nzwei".encode()) == [(1, "Grüße"), (3, "zwei")]
    with pytest.raises(BadInput, match=r"cannot read -: .*utf-8"):
        read(b"caf\xe9")
