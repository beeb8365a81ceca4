"""Show that the simulation notices when a guard is missing."""

from __future__ import annotations

import importlib
import json

import pytest

from tests.simulation.guard_list import GUARDS
from tests.simulation.guards import Guard, places_of
from tests.simulation.playing import ROOT, play
from tests.simulation.story import profile_named

#: Seeds that each guard may take.
TRIES = 20


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_guards__are_still_where_they_were(guard: Guard) -> None:
    assert profile_named(guard.noticed_by).name == guard.noticed_by
    assert guard.drop or guard.changes()
    for place, new in guard.changes():
        places = places_of(place)
        assert places
        assert all(getattr(owner, name) is not new for owner, name in places)


def test_guards__are_switched_off_for_every_module_that_imported_them() -> None:
    """A function that is replaced only where it was defined leaves its callers as they were."""
    importlib.import_module("orders.placing.claim_together")
    owners = {owner.__name__ for owner, _ in places_of("orders.gate.decide:decide")}
    assert {"orders.gate.decide", "orders.placing.claim", "orders.placing.claim_together"} <= owners
    assert [owner.__name__ for owner, _ in places_of("orders.sweep:ask_for")] == ["orders.sweep"]


def test_guards__are_all_in_the_table_of_the_page() -> None:
    page = (ROOT / "docs" / "proof.md").read_text()
    rows = {f"| {guard.name} | `{guard.noticed_by}` |" for guard in GUARDS}
    assert [row for row in rows if row not in page] == []


@pytest.mark.long
def test_guards__are_missed_by_name() -> None:
    run = play("--guards", f"--seeds={TRIES}", timeout=1800)
    rows = [json.loads(line) for line in run.output.splitlines() if '"guard"' in line]
    assert {row["guard"] for row in rows} == {guard.name for guard in GUARDS}, run.output
    assert [row for row in rows if row["seed"] is None or "problem_with_it" in row] == []
