"""Record an order without sending it: created, deferred, canceled or denied by the gate."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from exchanges import clock
from exchanges.db import batch_writes
from exchanges.db.batch_writes import Insert
from orders.accounts import account_named
from orders.gate.checks import Denial
from orders.gate.decide import PAST_DEADLINE
from orders.intents import Intent
from orders.models import AttemptOutcome, EventType, Order
from orders.notifications import outbox
from orders.placing.backoff import back_off, one_more
from orders.placing.holding import free_held_money
from orders.placing.intent_order import new_order, require_same_intent
from orders.recording.changes import Change, change_order, record_event, set_fields
from orders.states import LOCAL, OrderStatus


def record_order(intent: Intent) -> tuple[Order, bool]:
    """Record an intent as CREATED in the caller's transaction. Return the order, and if it is new.

    Raises `InvalidIntent` for an unknown account and `IntentConflict`.
    """
    account = account_named(intent.account)
    known = Order.objects.filter(account=account, intent_id=intent.intent_id).first()
    if known is None:
        order = new_order(intent, account.pk, clock.now())
        # The message after the commit sends it. If that is lost, the sweep does.
        order.next_check_at = clock.now() + timedelta(seconds=settings.RESOLVE_INTERVAL_SECONDS)
        try:
            with transaction.atomic():
                order.save(force_insert=True)
                record_event(
                    order, EventType.CREATED, actor=intent.strategy or "orchestrator"
                ).save(force_insert=True)
            return order, True
        except IntegrityError:
            known = Order.objects.get(account=account, intent_id=intent.intent_id)
    require_same_intent(known, intent)
    return known, False


def deny_new(order: Order, denial: Denial) -> Order:
    """Insert a new order as denied, in the caller's transaction."""
    created = record_event(order, EventType.CREATED, actor=order.strategy or "orchestrator")
    change = _denied(order, denial, was_sent_before=False)
    set_fields(order, change.fields)
    closed = record_event(
        order,
        change.event_type,
        actor=change.actor,
        previous_status=OrderStatus.CREATED,
        details=change.details,
    )
    batch_writes.write(Insert([order]), Insert([created, closed]))
    outbox.note_change(order)
    return order


def deny_stored(order: Order, denial: Denial) -> Order:
    """Close a CREATED order as denied, unless another worker has changed it."""
    version = order.version
    sent = order.exchange_orders.exclude(outcome=AttemptOutcome.NOT_SENT).exists()

    def decide(order: Order) -> Change | None:
        if order.version != version:  # the denial is about the order as the gate saw it
            return None
        return _denied(order, denial, was_sent_before=sent)

    return change_order(order, decide)


def _denied(order: Order, denial: Denial, *, was_sent_before: bool) -> Change:
    """Return DENIED if nothing ever left.

    NOT_PLACED if the deadline has passed, or if an earlier attempt is proven absent.
    """
    is_late = denial.code == PAST_DEADLINE or was_sent_before
    status = OrderStatus.NOT_PLACED if is_late else OrderStatus.DENIED
    fields: dict[str, Any] = {
        "status": str(status),
        "verdict": str(status),
        "reason_code": denial.code,
        "reason": denial.text,
        "closed_at": clock.now(),
        "next_check_at": None,
    }
    return Change(
        fields=fields,
        event_type=EventType.NOT_PLACED if is_late else EventType.DENIED,
        actor="gate",
        details={"code": denial.code, "reason": denial.text},
    )


def defer(order: Order, reason: str, retry_after: float | None, *, is_exact: bool = False) -> Order:
    """Let a CREATED order wait for the sweep, at least `retry_after` seconds.

    `is_exact`: exactly so long, because then it may go.
    """

    def decide(order: Order) -> Change | None:
        if order.status != OrderStatus.CREATED:
            return None
        least = 0.0 if is_exact else back_off(order)
        pause = timedelta(seconds=max(retry_after or 0.0, least))
        return Change(
            fields={"next_check_at": clock.now() + pause, "check_count": one_more(order)},
            event_type=EventType.WAITING,
            actor="gate",
            details={"reason": reason},
            log_event="order_deferred",
            log_level="warning",
            log_details={"reason": reason, "seconds": pause.total_seconds()},
        )

    return change_order(order, decide)


def cancel_unsent(order: Order) -> Order:
    """Cancel a CREATED or held order without sending it, unless a worker claims it first."""
    return change_order(order, _cancel_unsent)


def _cancel_unsent(order: Order) -> Change | None:
    if order.status not in LOCAL:
        return None
    return Change(
        fields={
            "status": str(OrderStatus.CANCELED),
            "verdict": str(OrderStatus.CANCELED),
            "reason_code": "WITHDRAWN",
            "reason": "canceled before it was sent",
            "closed_at": clock.now(),
            "next_check_at": None,
        },
        event_type=EventType.WITHDRAWN,
        actor=order.cancel_requested_by,
        also=partial(free_held_money, order) if order.status == OrderStatus.HELD else None,
        log_event="order_canceled_unsent",
    )
