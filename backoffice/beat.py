"""Run the schedule of the settings, which is fixed in a running installation."""

from __future__ import annotations

from datetime import UTC, datetime

from celery.beat import Scheduler
from django.conf import settings

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class DueAtStart(Scheduler):  # type: ignore[misc]  # Celery has no types
    """Run each duty when beat starts, and then at its interval.

    The time of the last run is in memory only. A beat that keeps restarting would otherwise never
    reach a duty with a long interval.
    """

    def setup_schedule(self) -> None:
        super().setup_schedule()
        for name, entry in self.schedule.items():
            if name != "reconcile-accounts" or settings.RECONCILE_AT_START:
                entry.last_run_at = _LONG_AGO
