"""Values as text, in TOML and in memory."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest

from gridnode.config.kinds import kind_of
from gridnode.core.addresses import Address
from gridnode.core.spans import Span


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


CASES: list[tuple[Any, str, Any, Any]] = [
    (str, "Ada", "Ada", "Ada"),
    (bool, "yes", True, True),
    (int, "7", 7, 7),
    (float, "1.5", 1.5, 1.5),
    (Path, "/var/lib", "/var/lib", Path("/var/lib")),
    (Address, "192.0.2.7:9", "192.0.2.7:9", Address("192.0.2.7", 9)),
    (Span | None, "0:10", "0:10", Span(0, 10)),
    (Colour, "blue", "blue", Colour.BLUE),
    (Literal["auto", "no"], "no", "no", "no"),
    (tuple[Address, ...], "192.0.2.7:9, 192.0.2.8", ["192.0.2.7:9", "192.0.2.8:7338"],
     (Address("192.0.2.7", 9), Address("192.0.2.8", 7338))),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "text", "toml", "value"), CASES)
def test_a_value_is_read_from_text_and_from_toml_and_written(
    annotation: Any, text: str, toml: Any, value: Any
) -> None:
    kind = kind_of(annotation, name="field", default=None)
    assert kind.read_text(text) == value
    assert kind.read_toml(toml) == value
    assert kind.write_toml(value) == toml


def test_a_size_is_written_as_people_do_if_that_is_exact() -> None:
    kind = kind_of(int | None, name="memory_bytes", default=None)
    assert kind.read_text("4GiB") == kind.read_toml(4 * 1024**3) == 4 * 1024**3
    assert kind.write_toml(4 * 1024**3) == "4GiB"
    assert kind.write_toml(4 * 1024**3 + 1) == 4 * 1024**3 + 1


def test_an_address_without_a_port_gets_that_of_the_default() -> None:
    assert kind_of(Address, name="api", default=Address("127.0.0.1", 7337)).read("192.0.2.7").port == 7337


@pytest.mark.parametrize(
    ("annotation", "toml", "complaint"),
    [
        (int, "four", "'four' is not a whole number"),
        (int, True, "True is not a whole number"),
        (str, 5, "5 is not text"),
        (bool, "yes", "'yes' is not true or false"),
        (Colour, "green", "'green' is not one of red, blue"),
        (Span | None, "9", "write it like 0:10"),
        (tuple[Address, ...], ["here"], "'here' is not an address"),
    ],
)
def test_a_wrong_value_is_refused(annotation: Any, toml: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind_of(annotation, name="field", default=None).read_toml(toml)


def test_a_type_without_a_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="'field'"):
        kind_of(complex, name="field", default=None)
