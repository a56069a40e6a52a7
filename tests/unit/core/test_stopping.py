import itertools

from gridnode.core.stopping import StopFilter


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    stop = StopFilter(stops)
    shown = "".join(stop.push(piece) for piece in pieces)
    return shown + stop.flush(), bool(stop.found)


def test_text_without_a_stop_passes_whole() -> None:
    assert run(["END"], ["abc", "E", "N", "xyz", "EN"]) == ("abcENxyzEN", False)


def test_the_answer_ends_before_the_stop_however_it_is_cut() -> None:
    text = "one two END three"
    for cut in itertools.combinations(range(1, len(text)), 2):
        pieces = [text[: cut[0]], text[cut[0] : cut[1]], text[cut[1] :]]
        assert run(["END"], pieces) == ("one two ", True)


def test_the_first_of_several_stops_counts() -> None:
    assert run(["zzz", "two", "one two"], ["say one two"]) == ("say ", True)


def test_it_says_which_stop_it_found() -> None:
    stop = StopFilter(["zzz", "two"])
    assert stop.found == ""
    stop.push("one two zzz")
    assert stop.found == "two"


def test_nothing_is_held_back_that_cannot_begin_a_stop() -> None:
    stop = StopFilter(["\n\n"])
    assert stop.push("hello") == "hello"
    assert stop.push("\n") == ""
    assert stop.push("x") == "\nx"
