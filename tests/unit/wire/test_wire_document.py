"""`docs/wire.md` keeps step with the messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

from cli_reference import all_records, record_tables

from gridnode.core.announcements import Announcement
from gridnode.wire.messages import PROTOCOL_VERSION, Message
from gridnode.wire.relay_messages import RelayMessage

DOCUMENT = Path(__file__).parents[3] / "docs" / "wire.md"
MARK = "by 'make docs' from gridnode/wire/messages.py and relay_messages.py. -->\n"


def reference() -> str:
    """Return the generated end of the document: which type each message has, then the fields."""
    messages = sorted((*get_args(Message), *get_args(RelayMessage)), key=lambda cls: cls.type)
    lines = ["", "| type | message |", "|---|---|"]
    lines += [f"| 0x{cls.type:02x} | [{cls.__name__}](#{cls.__name__.lower()}) |" for cls in messages]
    return "\n".join([*lines, "", *record_tables(all_records([*messages, Announcement]))])


def test_every_message_is_documented_with_its_fields() -> None:
    text = DOCUMENT.read_text()
    expected = text[: text.index(MARK) + len(MARK)] + reference()
    if "UPDATE_DOCS" in os.environ:
        DOCUMENT.write_text(expected)
    assert DOCUMENT.read_text() == expected, "'make docs' writes it anew"
    assert f"This is protocol {PROTOCOL_VERSION}." in text
