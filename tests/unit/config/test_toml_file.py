"""A wrong file is told with its name, the line and the right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridnode.config.layers import Given
from gridnode.config.toml_file import line_of, parse_file, read_file
from gridnode.core.addresses import Address
from gridnode.errors import BadInput

PATH = Path("/home/ada/config.toml")


def parse(text: str) -> dict[str, Given]:
    return parse_file(text, path=PATH, origin="user file")


def test_values_know_their_line() -> None:
    found = parse('# mine\n[serve]\nmodel = "a/b"\n\n[swarm]\njoin = [\n  "192.0.2.7",\n]\n')
    assert found["serve.model"] == Given("a/b", "user file", f"{PATH}:3")
    assert found["swarm.join"] == Given((Address("192.0.2.7", 7338),), "user file", f"{PATH}:6")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[serve]\nmodle = "x"\n', r"line 2: there is no key serve\.modle; did you mean serve\.model\?"),
        ('model = "x"\n', r"line 1: there is no key model; did you mean serve\.model\?"),
        ("[limits]\n\ncache_tokens = 0\n", "line 3: limits.cache_tokens: .* at least 1, got 0"),
        ("[limits]\nthreads = 'x'\n", r"line 2: limits\.threads: 'x' is not a whole number"),
        ("[serve]\nquantize = 'int9'\n", "line 2: .*'int9' is not one of none, int8, int4"),
        ("[serve]\nxyzzy.deep = 1\n", "line 2: there is no key serve.xyzzy; 'gridnode config keys'"),
        ("[serve\n", "line 1"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        parse(text)
    assert str(PATH) in str(caught.value)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        parse("[serve]\nmodle = 'x'\ndtype = 'int3'\n[sworm]\nname = 'x'\n")
    assert [line.split(":")[0].split()[-1] for line in str(caught.value).splitlines()] == ["2", "3", "5"]


def test_a_key_is_found_in_every_way_to_write_it() -> None:
    assert line_of('\nserve.model = "x"\n', "serve.model") == 2
    assert line_of('[ "serve" ]\n"model" = "x"\n', "serve.model") == 2
    assert line_of('[swarm]\nname = "x"\n[node]\nname = "y"\n', "node.name") == 4
    assert line_of('\nserve = {model = "x"}\n', "serve.model") == 2


def test_no_file_gives_nothing_and_an_unreadable_one_is_named(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none.toml", "user file") == {}
    with pytest.raises(BadInput, match=str(tmp_path)):
        read_file(tmp_path, "user file")


def test_a_file_that_cannot_be_read_is_named_once_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_file(tmp_path, origin="user file")
    assert str(caught.value) == f"cannot read the configuration file {tmp_path}: Is a directory"
