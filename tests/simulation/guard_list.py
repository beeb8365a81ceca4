"""All guards, in the order in which they are tried."""

from __future__ import annotations

from tests.simulation.guards import Guard
from tests.simulation.guards_of_records import RECORDS
from tests.simulation.guards_of_sending import SENDING

GUARDS: tuple[Guard, ...] = (*SENDING, *RECORDS)
BY_NAME = {guard.name: guard for guard in GUARDS}
