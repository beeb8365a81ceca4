"""Find the duties that stand still, for `/readyz`, `/metrics` and the desk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import DurationField, ExpressionWrapper, F, Value
from django.db.models.functions import Now

from exchanges.duties import HALT_RULES, SWEEP, queue_duty
from exchanges.models import DutyRun, ExchangeAccount

# A duty that misses so many of its turns stands still.
_MISSED_TURNS = 3
# The time since the last run, by the database's clock, which stamped it.
AGE = ExpressionWrapper(Now() - F("ran_at"), output_field=DurationField())


@dataclass(frozen=True, slots=True)
class DutyState:
    """A duty for all accounts, or for the one that is named. `age` is None if it never ran."""

    duty: str
    account: str
    age: float | None

    @property
    def stands_still(self) -> bool:
        """Return whether the last run is too long ago.

        A new installation waits for the first run of a duty with a long interval.
        """
        longest = longest_age(self.duty)
        return longest <= settings.MAX_DUTY_AGE_SECONDS if self.age is None else self.age > longest

    def __str__(self) -> str:
        return f"{self.duty} of {self.account}" if self.account else self.duty


def longest_age(duty: str) -> float:
    """Return after how many seconds without a run the duty stands still."""
    allowed: float = settings.MAX_DUTY_AGE_SECONDS
    return max(allowed, _MISSED_TURNS * _intervals().get(duty, 0.0))


def _intervals() -> dict[str, float]:
    entries = settings.CELERY_BEAT_SCHEDULE.values()
    return {_name(entry): entry["schedule"].run_every.total_seconds() for entry in entries}


def _name(entry: dict[str, Any]) -> str:
    """Return the name of the row's stamp. Each queue has a heartbeat of its own."""
    return queue_duty(*entry["args"]) if entry.get("args") else entry["task"]


def duty_states() -> list[DutyState]:
    """Return the state of each duty of the schedule, and of those that the gate relies on."""
    runs = DutyRun.objects.annotate(age=AGE).order_by().values_list("duty", "account__name", "age")
    enabled = ExchangeAccount.objects.filter(is_enabled=True).order_by()
    # One query for both, because the front page asks at each visit.
    nothing = Value(None, output_field=DurationField())
    rows = [*runs.union(enabled.values_list(Value(""), "name", nothing), all=True)]
    ages = {(duty, name or ""): age.total_seconds() for duty, name, age in rows if duty}
    states = [DutyState(duty, "", ages.get((duty, ""))) for duty in _intervals()]
    for account in sorted(name for duty, name, _ in rows if not duty):
        states += [
            DutyState(duty, account, ages.get((duty, account))) for duty in (HALT_RULES, SWEEP)
        ]
    return states


def standing_still() -> list[DutyState]:
    return [state for state in duty_states() if state.stands_still]
