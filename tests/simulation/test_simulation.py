"""Run seeds of the simulation: no promise breaks, and a seed always plays the same story."""

from __future__ import annotations

import pytest

from tests.simulation import marks
from tests.simulation.playing import play

FEW = 4
MANY = 80  # five of each profile


@pytest.mark.long
def test_a_few_seeds_keep_every_promise_and_replay_exactly() -> None:
    run = play(f"--seeds={FEW}", timeout=300)
    again = play("--seeds=1", f"--seed={FEW - 1}", timeout=120)

    assert run.problems == []
    assert len(run.rows) == FEW, run.output
    traces = {row["seed"]: row["trace"] for row in run.rows}
    assert again.rows[0]["trace"] == traces[FEW - 1], "the same seed took another course"


@pytest.mark.long
def test_many_seeds_keep_every_promise_and_pass_the_rare_places() -> None:
    run = play(f"--seeds={MANY}", "--jobs=2", timeout=1200)

    assert run.problems == []
    assert len(run.rows) == MANY, run.output
    assert set(marks.IN_MANY) - run.marks == set()
