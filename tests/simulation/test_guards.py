"""Show that the simulation notices when a guard is missing."""

from __future__ import annotations

import importlib
import json

import pytest

from tests.simulation.guards import GUARDS, Guard
from tests.simulation.playing import play

#: Stories of each profile that each guard may take.
TRIES = 12


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_guards__are_still_where_they_were(guard: Guard) -> None:
    for place, new in guard.changes():
        module, _, path = place.partition(":")
        owner = importlib.import_module(module)
        for name in path.split("."):
            owner = getattr(owner, name)
        assert owner is not new


@pytest.mark.long
def test_guards__that_are_proven_are_missed_by_name() -> None:
    proven = {guard.name for guard in GUARDS if guard.is_proven}
    run = play("--guards", "--proven", f"--seeds={TRIES}", timeout=1200)
    rows = [json.loads(line) for line in run.output.splitlines() if '"guard"' in line]
    assert proven
    assert {row["guard"] for row in rows} == proven, run.output
    assert {row["guard"] for row in rows if row["seed"] is None} == set()
