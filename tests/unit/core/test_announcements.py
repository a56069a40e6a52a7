"""What strangers announce: numbers that nothing behind them can be broken with."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from wire_samples import ANNOUNCEMENT, SERVING

from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_COUNT, MAX_STEP_S, MIN_STEP_S
from gridnode.core.ids import ModelId
from gridnode.core.relays import Relay
from gridnode.node.status import _serving_status


@pytest.mark.parametrize(
    "field", ["max_session_tokens", "free_cache_tokens", "total_cache_tokens", "open_sessions"]
)
@pytest.mark.parametrize("count", [-1, MAX_COUNT + 1, 2**63, 2**64 - 1])
def test_counts_that_other_formats_cannot_hold_are_refused(field: str, count: int) -> None:
    wrong: dict[str, Any] = {field: count}
    with pytest.raises(ValueError, match="number of tokens or sessions"):
        replace(SERVING, **wrong)


def test_the_greatest_counts_and_the_fastest_blocks_are_shown_as_numbers() -> None:
    for decode_block_s in (MIN_STEP_S, MAX_STEP_S):
        shown = _serving_status(replace(SERVING, decode_block_s=decode_block_s, open_sessions=MAX_COUNT))
        read = msgspec.json.decode(msgspec.json.encode(shown))
        assert read["open_sessions"] == MAX_COUNT
        assert read["decode_tokens_per_s"] > 0


@pytest.mark.parametrize("decode_block_s", [1e-310, 5e-324, 0.99 * MIN_STEP_S])
def test_speeds_that_no_computer_has_are_refused(decode_block_s: float) -> None:
    with pytest.raises(ValueError, match="decode_block_s"):
        replace(SERVING, decode_block_s=decode_block_s)


@pytest.mark.parametrize(
    "address",
    [
        Address("192.0.2.7", 0),
        Address("192.0.2.7", 2**16),
        Address("fd9c:3a7e:51d4::1", 2**63),
        Address("x", 1),
    ],
)
def test_addresses_that_no_socket_takes_are_refused(address: Address) -> None:
    with pytest.raises(ValueError, match=r"port|IPv4"):
        replace(ANNOUNCEMENT, addresses=(address,))


@pytest.mark.parametrize("port", [-1, 0, 2**16, 2**63])
def test_relays_at_ports_that_do_not_exist_are_refused(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        replace(ANNOUNCEMENT, relays=(Relay("192.0.2.7", port, ANNOUNCEMENT.peer_id),))


@pytest.mark.parametrize("manifest", ["", "/home/x/.docker", "../..", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_manifest_that_is_no_hash_is_refused(manifest: str) -> None:
    """Directories are named after it."""
    with pytest.raises(ValueError, match="manifest hash"):
        ModelId("tiny", manifest)
