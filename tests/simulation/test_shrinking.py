"""Shorten stories that fail, and tell them in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from tests.simulation import words
from tests.simulation.narrow import NARROW
from tests.simulation.playing import play
from tests.simulation.shrinking import shrink
from tests.simulation.steps import Step
from tests.simulation.story import ALL_MAKERS, PROFILES, make_story


def _story(*kinds: str) -> list[Step]:
    return [Step(float(number), kind) for number, kind in enumerate(kinds)]


@pytest.mark.parametrize("seed", range(20))
def test_shrink__keeps_exactly_the_steps_that_the_failure_needs(seed: int) -> None:
    chance = Random(seed)
    kinds = ["submit", "halt", "crash", *("fill" for _ in range(chance.randint(0, 30)))]
    chance.shuffle(kinds)
    needed = set(chance.sample(["submit", "halt", "crash"], chance.randint(1, 3)))

    def fails(steps: Sequence[Step]) -> bool:
        return needed <= {step.kind for step in steps}

    left = shrink(_story(*kinds), fails)

    assert {step.kind for step in left} == needed
    assert len(left) == len(needed)
    assert [step.at for step in left] == sorted(step.at for step in left)


def test_shrink__of_a_story_that_fails_by_itself_leaves_nothing() -> None:
    assert shrink(_story("submit", "fill", "halt"), lambda steps: True) == []


@pytest.mark.long
def test_simulate_faults__shortens_a_failing_story_to_the_steps_that_it_needs() -> None:
    """Without the question before a second attempt, an order whose answer is lost is sent twice."""
    run = play(
        "--shrink",
        "--guard=question before a second attempt",
        "--profile=lost answers",
        timeout=600,
    )

    told = run.output.partition("the shortest story of seed 0 (lost answers) that fails:\n")[2]
    steps = [line for line in told.splitlines() if " s  " in line]
    assert len(steps) == 2, run.output
    assert "   => beta: 2 orders were accepted for the intent of bo-" in told
    assert "loses its answer, and all streams are mute" in steps[0]
    assert "a bot " in steps[1]
    assert "MARKET" in steps[1]


def test_every_step_of_every_profile_has_plain_words() -> None:
    kinds = set()
    for profile in (*PROFILES.values(), *NARROW):
        assert set(profile.steps) <= set(ALL_MAKERS)
        for seed in range(40):
            story = make_story(seed, profile)
            kinds |= {step.kind for step in story}
            assert all(" s  " in step.in_words() for step in story)
    assert kinds == words.known_kinds()
