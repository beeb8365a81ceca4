"""Link an intent to the order that was recovered from the exchange without its row."""

from __future__ import annotations

from uuid import UUID

from exchanges.errors import NotSent
from exchanges.instrument_rules import InstrumentRules
from orders.gate.checks import Denial, quantize
from orders.intents import Intent, IntentConflict
from orders.models import EventType, ExchangeOrder, Fill, Order, OrderEvent, ReconciliationBreak
from orders.placing.intent_order import require_same_intent
from orders.placing.record import deny_stored
from orders.recording.changes import (
    Change,
    change_order,
    record_event,
    update_if_unchanged,
)
from orders.states import OrderStatus

INTENT_CONFLICT = "INTENT_CONFLICT"


def adopt_recovered(order_id: UUID, intent: Intent, rules: InstrumentRules | None) -> Order:
    """Give the order that was recovered without its row to its intent, which has come again.

    Raises `IntentConflict` if the intent is not the one that was sent.
    """
    order = Order.objects.get(pk=order_id)
    recovered_as = order.intent_id

    def decide(order: Order) -> Change | None:
        if order.intent_id != recovered_as:  # another worker has linked it
            return None
        _require_same_as_sent(order, intent, rules)
        return Change(
            fields={
                "intent_id": intent.intent_id,
                "strategy": intent.strategy,
                **intent.amounts.by_name,
            },
            event_type=EventType.ADOPTED,
            actor="gate",
            details={"recovered_as": recovered_as},
        )

    return change_order(order, decide)


def _require_same_as_sent(recovered: Order, intent: Intent, rules: InstrumentRules | None) -> None:
    as_sent = intent.amounts if rules is None else quantize(rules, intent.amounts)
    require_same_intent(recovered, intent, as_sent=as_sent)


# The fields that the exchange's reports set. `attempt` counts the requests behind them.
_KNOWN_FROM_REPORTS = (
    "status",
    "exchange_order_id",
    "reason_code",
    "reason",
    "filled_quantity",
    "filled_quote_quantity",
    "average_price",
    "acknowledged_at",
    "closed_at",
    "attempt",
    "open_attempts",
    "next_check_at",
)


def join_recovered(
    order: Order, recovered_id: UUID, intent: Intent, rules: InstrumentRules | None
) -> Order:
    """Join the order, which was recorded again, with its first life recovered from the exchange.

    Raises `NotSent` if another worker changes either of them in the same moment.
    """
    recovered = Order.objects.get(pk=recovered_id)
    try:
        _require_same_as_sent(recovered, intent, rules)
    except IntentConflict as conflict:
        return deny_stored(order, Denial(INTENT_CONFLICT, str(conflict)))
    # Both versions move on here, so until the commit no other worker can change or claim either.
    if not update_if_unchanged(recovered) or not update_if_unchanged(
        order, **{name: getattr(recovered, name) for name in _KNOWN_FROM_REPORTS}
    ):
        raise NotSent("another worker is changing the order", retry_after=None)
    for model in (ExchangeOrder, Fill, OrderEvent, ReconciliationBreak):
        model.objects.filter(order=recovered).update(order=order)
    recovered.delete()
    record_event(
        order,
        EventType.ADOPTED,
        actor="gate",
        previous_status=OrderStatus.CREATED,
        details={"recovered_as": recovered.intent_id},
    ).save(force_insert=True)
    return order
