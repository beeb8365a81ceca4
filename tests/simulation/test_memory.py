"""Let no module remember something that the simulation doesn't know of."""

from __future__ import annotations

import re

from tests.simulation.memory import REMEMBERED
from tests.simulation.playing import ROOT

# The same in every process, or nothing that a story reaches.
HARMLESS = {
    "exchanges.acts:_tables",
    "exchanges.acts:_writers",
}
_STATE = re.compile(r"^(_?[a-z][a-z_]*): (?:dict|list|set|Counter|deque)\b.* = ", re.MULTILINE)


def test_memory__knows_what_every_module_remembers() -> None:
    known = {place for _, places in REMEMBERED for place in places}
    found = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{name}"
        for folder in ("exchanges", "orders")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "simulator" not in path.parts and "migrations" not in path.parts
        for name in _STATE.findall(path.read_text())
    }
    assert found - known - HARMLESS == set()
