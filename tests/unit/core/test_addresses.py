import pytest

from gridnode.core.addresses import DEFAULT_PORT, Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7:1234", Address("192.0.2.7", 1234)),
        ("192.0.2.7", Address("192.0.2.7", DEFAULT_PORT)),
        ("localhost:5", Address("127.0.0.1", 5)),
        ("[2001:db8::7]:1234", Address("2001:db8::7", 1234)),
        ("2001:db8::7", Address("2001:db8::7", DEFAULT_PORT)),
        ("[2001:db8::7]", Address("2001:db8::7", DEFAULT_PORT)),
    ],
)
def test_addresses_are_read_in_the_usual_forms(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("address", [Address("192.0.2.7", 1), Address("2001:db8::7", 2)])
def test_addresses_are_read_as_they_are_printed(address: Address) -> None:
    assert parse_address(str(address)) == address


@pytest.mark.parametrize("text", ["", "example.org:1", "192.0.2.7:x", "192.0.2.7:99999", "1.2.3:5", "::1:x:"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)
