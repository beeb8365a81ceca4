"""Test the measure of how far a run of the benchmarks can be trusted."""

from __future__ import annotations

import pytest

from tests.benchmarks import floors
from tests.benchmarks.floors import Steal


def test_steal__is_its_share_of_all_time_since_the_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(([10, 0, 10, 70, 0, 0, 0, 10], [40, 0, 30, 110, 0, 0, 0, 20]))
    monkeypatch.setattr(floors, "_times", lambda: next(times))
    assert Steal().percent() == pytest.approx(10.0)


def test_steal__reads_the_kernels_eight_counters() -> None:
    steal = Steal()
    assert len(floors._times()) == 8
    assert 0 <= steal.percent() <= 100
