from __future__ import annotations

import pytest

from gridnode.core.addresses import Address
from gridnode.core.ids import PEER_ID_BYTES, PeerId
from gridnode.errors import ProtocolError
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame
from gridnode.wire.messages import MessageType
from gridnode.wire.relay_messages import (
    MAX_MEMBERS,
    FindMembers,
    Guess,
    Members,
    Observed,
    PathOffer,
    Punch,
    Register,
    Registered,
    RelayMessage,
    RelayMessageType,
    RelayRefused,
    decode_relay_message,
    is_relay_message,
)

ADDRESS = Address("192.0.2.7", 7338)
SAMPLES: list[RelayMessage] = [
    Register(swarms=("5ca1ab1e",)),
    Registered(bytes_per_s=2**21),
    RelayRefused(text="full"),
    Observed(address=ADDRESS),
    FindMembers(),
    Members(peers=(PeerId(bytes(PEER_ID_BYTES)),)),
    PathOffer(secret=bytes(16), own=(ADDRESS,), observed=(), guesses=True),
    Punch(),
    Guess(),
]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_every_message_comes_out_as_it_went_in(message: RelayMessage) -> None:
    assert decode_relay_message(encode_message(message)) == message


def test_every_message_has_a_sample_and_a_type_of_its_own() -> None:
    types = [message.type for message in SAMPLES]
    assert sorted(types) == sorted(RelayMessageType)
    assert all(is_relay_message(each) for each in types)
    assert not any(is_relay_message(each) for each in MessageType)


@pytest.mark.parametrize(
    "message",
    [
        Register(swarms=("x" * 65,)),
        Members(peers=(PeerId(bytes(PEER_ID_BYTES)),) * (MAX_MEMBERS + 1)),
        Members(peers=(PeerId(b"short"),)),
        PathOffer(secret=b"short", own=(), observed=()),
        PathOffer(secret=bytes(16), own=(ADDRESS,) * 17, observed=()),
    ],
)
def test_what_is_beyond_its_limits_is_refused(message: RelayMessage) -> None:
    with pytest.raises(ProtocolError, match="bad"):
        decode_relay_message(encode_message(message))


@pytest.mark.parametrize(
    ("host", "port"), [("example.org", 1), ("", 1), ("192.0.2.7", 0), ("192.0.2.7", 65536)]
)
def test_addresses_that_cannot_be_are_refused(host: str, port: int) -> None:
    said = [host, port]
    with pytest.raises(ProtocolError, match="bad Observed"):
        decode_relay_message(Frame(Observed.type, {"address": said}))
    for name in ("own", "observed"):
        offer = {"secret": bytes(16), "own": [], "observed": [], name: [said]}
        with pytest.raises(ProtocolError, match="bad PathOffer"):
            decode_relay_message(Frame(PathOffer.type, offer))
