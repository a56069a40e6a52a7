import pytest

from gridnode.node.queue_gauge import WINDOW_S, QueueGauge


def test_steps_that_stay_count_and_are_forgotten_when_they_left() -> None:
    gauge = QueueGauge(now=0.0)
    assert gauge.average(now=100.0) == 0.0
    gauge.come(now=100.0)
    gauge.come(now=100.0)
    assert gauge.average(now=100.0 + 10 * WINDOW_S) == pytest.approx(2.0, abs=0.01)
    gauge.go(now=300.0)
    gauge.go(now=300.0)
    assert gauge.average(now=300.0 + 10 * WINDOW_S) == pytest.approx(0.0, abs=0.01)


def test_short_steps_count_by_their_share_of_time() -> None:
    gauge = QueueGauge(now=0.0)
    for second in range(200):
        gauge.come(now=second)
        gauge.go(now=second + 0.25)
    assert gauge.average(now=200.0) == pytest.approx(0.25, abs=0.02)
