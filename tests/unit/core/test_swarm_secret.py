import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.swarm_secret import OPAQUE_ID_BYTES, SwarmKey, opaque_id

KEY = SwarmKey(seed=bytes(range(32)), made_s=1000, older_until_s=1000)


def test_an_opaque_id_never_changes() -> None:
    # Nodes of different versions must find each other.
    assert opaque_id("home", b"", purpose="lan").hex() == "2b5c90ed47b3ae6661521e7d8e343ab7"
    assert (
        opaque_id("home", KEY.public_key, purpose="relay", about=b"m").hex()
        == "8956fd1f31f250158cc82bfcba387ab0"
    )


@given(names=st.lists(st.text(max_size=64), min_size=2, max_size=2, unique=True), about=st.binary(max_size=9))
def test_other_names_keys_purposes_and_things_give_other_ids(names: list[str], about: bytes) -> None:
    ids = {
        opaque_id(name, key, purpose=purpose, about=what)
        for name in names
        for key in (b"", KEY.public_key)
        for purpose in ("lan", "relay", "link")
        for what in (about, about + b"\0")
    }
    assert len(ids) == 2 * 2 * 3 * 2
    assert {len(found) for found in ids} == {OPAQUE_ID_BYTES}


@given(name=st.text(max_size=30), tail=st.text(min_size=1, max_size=30))
def test_nothing_moves_from_the_name_into_what_the_id_is_about(name: str, tail: str) -> None:
    one = opaque_id(name + tail, KEY.public_key, purpose="relay")
    assert one != opaque_id(name, KEY.public_key, purpose="relay", about=tail.encode())


def test_a_key_does_not_show_its_private_half() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        SwarmKey(seed=bytes(31), made_s=0, older_until_s=0)
