"""Docstrings under fields."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass

from gridnode.config.field_docs import field_docs


@dataclass
class Record:
    """A record."""

    plain: int
    told: int = 0
    """What it means,
    on two lines."""

    last: int = 0


def test_fields_have_the_docstring_that_follows_them() -> None:
    assert field_docs(Record) == {"told": "What it means, on two lines."}


def test_a_class_without_source_has_none() -> None:
    assert field_docs(make_dataclass("Made", ["field"])) == {}
