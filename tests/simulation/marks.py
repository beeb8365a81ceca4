"""Count the rare places that a run has passed. A run of many seeds that misses one proves less."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import F

from orders.models import AttemptOutcome, ExchangeOrder, Order, OrderEvent, ReconciliationBreak
from tests.simulation.world import World

#: Name of a mark -> the line in the back office's log that shows it.
LOGGED: Mapping[str, str] = {
    "proven absent": "order_proven_absent",
    "book distrusted": "book_distrusted",
    "book begun": "book_begun",
    "database repeated": "database_away",
    "task waits for database": "task_waits_for_database",
    "redis away": "limits_redis_away",
    "breaker opened": "breaker_opened",
    "account reconciled": "account_reconciled",
    "canceled unsent": "order_canceled_unsent",
    "cancel not confirmed": "cancel_not_confirmed",
    "deferred": "order_deferred",
    "sent late or unanswered": "order_not_acknowledged",
    "stream in sync": "stream_in_sync",
    "judged by new rules": "symbol_learned",
    "early cancel or unknown intent": "intent_invalid",
    "halted": "trading_halted",
    "resumed": "trading_resumed",
}
#: Every mark, also those that the database shows.
ALL = (
    *LOGGED,
    "second attempt",
    "third attempt",
    "late evidence",
    "adopted",
    "duplicate",
    "rejected",
    "denied",
    "not placed",
    "partially filled",
    "canceled after a fill",
    "recovered",
    "external",
    "amended",
    "lock wait",
    "crash",
    "put back",
    "handed over",
    "failover",
    "halt",
    "hand",
    "database away",
    "lease lost",
    "new account",
    "reset",
    "clock steps",
    "clock drifts",
    "review: release",
    "review: reject",
    "review came too late",
    "held too long",
    "declared lost",
    "numbers used again",
    "later epoch",
    "double found",
    "done together",
    "events together",
    "new rules",
    "symbol gone",
    "judged by new rules",
    "refused by new rules",
    "other settings",
    "deploy",
    "migration",
    "stale plan",
    "exchange's clock steps",
    "exchange's clock drifts",
    "time refused",
    "new limit",
    "redis went back",
    "key refused",
    "table missing",
    "listener helped out",
)


def marks_of(world: World) -> set[str]:
    """Return the marks of one finished run."""
    found = {mark for mark, name in LOGGED.items() if world.ears.events[name]}
    found |= world.marks & set(ALL)
    events = set(OrderEvent.objects.values_list("event_type", flat=True).distinct())
    attempts = ExchangeOrder.objects.values_list("attempt", flat=True)
    most = max(attempts, default=0)
    statuses = set(Order.objects.values_list("status", flat=True))
    breaks = set(ReconciliationBreak.objects.values_list("kind", flat=True))
    for mark, holds in {
        "second attempt": most >= 2,
        "third attempt": most >= 3,
        "late evidence": "LATE_EVIDENCE" in breaks,
        "adopted": "ADOPTED" in events,
        "duplicate": "DUPLICATE" in events,
        "declared lost": "DECLARED_LOST" in events,
        "held too long": Order.objects.filter(
            status="NOT_PLACED", events__event_type="HELD"
        ).exists(),
        "numbers used again": "NUMBERS_REUSED" in breaks,
        "later epoch": ExchangeOrder.objects.filter(epoch__gt=1).exists(),
        "rejected": "REJECTED" in statuses,
        "denied": "DENIED" in statuses,
        "not placed": "NOT_PLACED" in statuses,
        "partially filled": "PARTIALLY_FILLED" in statuses,
        "canceled after a fill": Order.objects.filter(
            status="CANCELED", filled_quantity__gt=0
        ).exists(),
        "refused by new rules": OrderEvent.objects.filter(
            event_type="NOT_SENT", details__code__in=(-1013, -1111, -1121)
        ).exists(),
        "time refused": OrderEvent.objects.filter(
            event_type="NOT_SENT", details__code=-1021
        ).exists(),
        "recovered": Order.objects.filter(intent_id__startswith="recovered:").exists(),
        "external": Order.objects.filter(is_external=True).exists(),
        "amended": ExchangeOrder.objects.exclude(amended_client_order_id="").exists(),
        "lock wait": world.database.lock_waits > 0,
        "adopted by another attempt": ExchangeOrder.objects.filter(
            outcome=AttemptOutcome.ACKNOWLEDGED, attempt__lt=F("order__attempt")
        ).exists(),
    }.items():
        if holds and mark in ALL:
            found.add(mark)
    return found


#: The marks that the first 80 seeds must have passed: each had at least three of them.
IN_MANY = (
    "account reconciled",
    "adopted",
    "book begun",
    "book distrusted",
    "cancel not confirmed",
    "canceled after a fill",
    "canceled unsent",
    "clock drifts",
    "clock steps",
    "crash",
    "deferred",
    "denied",
    "deploy",
    "done together",
    "early cancel or unknown intent",
    "events together",
    "exchange's clock drifts",
    "exchange's clock steps",
    "external",
    "failover",
    "halt",
    "halted",
    "hand",
    "handed over",
    "held too long",
    "lock wait",
    "migration",
    "new limit",
    "new rules",
    "not placed",
    "other settings",
    "partially filled",
    "proven absent",
    "put back",
    "redis went back",
    "refused by new rules",
    "resumed",
    "review: release",
    "second attempt",
    "sent late or unanswered",
    "stream in sync",
    "symbol gone",
    "task waits for database",
    "time refused",
)
