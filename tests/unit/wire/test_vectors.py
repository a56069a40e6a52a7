"""Frames as versions before this one sent them are understood."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from record_frames import vector_file
from wire_samples import ANNOUNCEMENT, SAMPLES, decode

from gridnode.wire.frames import FrameDecoder
from gridnode.wire.messages import (
    MAX_PROTOCOL_DIFFERENCE,
    PROTOCOL_VERSION,
    Announce,
    Message,
    understands,
)
from gridnode.wire.relay_messages import RelayMessage
from gridnode.wire.signing import verify_announcement

# The present protocol and the one before it; there is none before the first.
PROTOCOLS = range(max(1, PROTOCOL_VERSION - MAX_PROTOCOL_DIFFERENCE), PROTOCOL_VERSION + 1)


def recorded(protocol: int) -> dict[str, bytes]:
    frames = json.loads(vector_file(protocol).read_text())
    return {name: bytes.fromhex(frame) for name, frame in frames.items()}


def read(data: bytes) -> tuple[Message | RelayMessage, bytes]:
    (frame,) = FrameDecoder().receive_data(data)
    return decode(frame), bytes(frame.body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("message", "body"),
    [sample for sample in SAMPLES if not isinstance(sample[0], Announce)],
    ids=lambda value: type(value).__name__,
)
def test_recorded_frames_mean_what_they_meant(
    protocol: int, message: Message | RelayMessage, body: bytes
) -> None:
    """A field that is new since then has its default."""
    data = recorded(protocol).get(type(message).__name__)
    if data is None:
        assert protocol < PROTOCOL_VERSION, "run python tests/record_frames.py"
        return  # that protocol did not have it
    assert read(data) == (message, body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_recorded_announcement_keeps_its_signature(protocol: int) -> None:
    announce, _ = read(recorded(protocol)["Announce"])
    assert isinstance(announce, Announce)
    assert verify_announcement(announce.announcements[0]) == ANNOUNCEMENT


def test_every_kind_of_message_is_recorded() -> None:
    names = {cls.__name__ for cls in (*get_args(Message), *get_args(RelayMessage))}
    told = "give tests/wire_samples.py one of each, then run python tests/record_frames.py"
    assert recorded(PROTOCOL_VERSION).keys() == names, told


def test_one_protocol_apart_is_understood() -> None:
    assert [understands(PROTOCOL_VERSION + step) for step in (-2, -1, 0, 1, 2)] == [
        False,
        True,
        True,
        True,
        False,
    ]
