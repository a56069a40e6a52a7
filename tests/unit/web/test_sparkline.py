from __future__ import annotations

from gridnode.control.history import SAMPLE_S, Sample
from gridnode_web.sparkline import HEIGHT, WIDTH, day, sparkline

NOW = 1_700_000_100.0


def line(*samples: Sample, top: float | None = None) -> str:
    return sparkline(samples, lambda s: s.sessions, title="", unit="", now=NOW, top=top).path


def test_the_present_is_at_the_right_end_and_old_samples_are_left_out() -> None:
    assert line(Sample(at=NOW, sessions=2)).startswith(f"M{WIDTH - 1} ")
    assert line(Sample(at=NOW - WIDTH * SAMPLE_S, sessions=2)) == ""


def test_bars_are_scaled_to_the_peak_or_to_the_top() -> None:
    assert f"v{-HEIGHT:.1f}" in line(Sample(at=NOW, sessions=2))
    assert f"v{-HEIGHT / 2:.1f}" in line(Sample(at=NOW, sessions=2), top=4)


def test_a_quiet_node_is_told_from_an_absent_one() -> None:
    assert "v-1.0" in line(Sample(at=NOW))
    assert line() == ""


def test_a_day_tells_speed_sessions_and_cache() -> None:
    lines = day([Sample(at=NOW - SAMPLE_S, tokens=SAMPLE_S * 3, sessions=2, cache_use=0.25)], now=NOW)
    assert [figure.latest for figure in lines] == [3.0, 2, 25.0]
