import pytest

from gridnode.core.ids import ModelId, PeerId, parse_peer_id, short, show_peer

PEER = PeerId(bytes(range(32)))


def test_a_peer_id_is_read_as_it_is_shown() -> None:
    assert len(show_peer(PEER)) == 52
    assert parse_peer_id(show_peer(PEER)) == PEER


def test_the_short_form_begins_the_full_one() -> None:
    assert show_peer(PEER).startswith(short(PEER))
    assert len(short(PEER)) == 8


@pytest.mark.parametrize("text", ["", "abc", "1" * 52, "a" * 60])
def test_what_is_no_peer_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a peer id"):
        parse_peer_id(text)


def test_models_of_the_same_name_differ_by_their_weights() -> None:
    assert ModelId("llama", "a" * 64) != ModelId("llama", "b" * 64)
    assert str(ModelId("llama", "a" * 64)) == "llama@aaaaaaaaaaaa"


def test_a_model_has_a_name_that_can_be_shown() -> None:
    assert ModelId("Größe-7B (neu)", "a" * 64).name == "Größe-7B (neu)"
    for name in ("\x1b[31mred", "two\nlines", "\u202egnp", "\udcff"):
        with pytest.raises(ValueError, match="cannot be shown"):
            ModelId(name, "a" * 64)
    for name in ("", "x" * 256):
        with pytest.raises(ValueError, match="1 to 255 are allowed"):
            ModelId(name, "a" * 64)
