import pytest

from gridnode.units import GIB, MIB, format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4096", 4096), ("2GiB", 2 * GIB), ("2G", 2 * GIB), ("1.5 GB", 1_500_000_000), ("512m", 512 * MIB)],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 apple", "1e9"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2GiB"):
        parse_bytes(text)


def test_sizes_are_shown_with_three_digits() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 20 * MIB, 300 * MIB, 1.5 * GIB)] == [
        "0 B",
        "1023 B",
        "1.50 KiB",
        "20.0 MiB",
        "300 MiB",
        "1.50 GiB",
    ]


def test_times_are_shown_in_the_unit_that_suits() -> None:
    assert [format_seconds(s) for s in (0, 27.2e-6, 0.9996e-3, 0.0123, 0.82, 0.9996, 14, 180, 7200)] == [
        "0 ms",
        "27.2 µs",
        "1 ms",
        "12.3 ms",
        "820 ms",
        "1 s",
        "14 s",
        "3 min",
        "2 h",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1h 30m", 5400), ("0.5h", 1800)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-1", "1h later", "1,5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_seconds(text)
