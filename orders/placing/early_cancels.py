"""Remember a cancel that overtook its submit, for an hour, and let the order meet it.

The claim looks for it and closes the order unsent. A claim that ran in the same moment may miss
it, so the sweep looks for such orders, too.
"""

from __future__ import annotations

from datetime import timedelta

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import EarlyCancel, EventType, Order
from orders.placing.cancel import request_cancel
from orders.recording.changes import record_event

KEPT_FOR = timedelta(hours=1)


def remember_cancel(
    *, account: ExchangeAccount, intent_id: str, requested_by: str, reason: str
) -> None:
    EarlyCancel.objects.update_or_create(
        account=account,
        intent_id=intent_id,
        defaults={"requested_by": requested_by, "reason": reason, "at": clock.now()},
    )


def withdraw_new(order: Order) -> Order:
    """Insert a new order and cancel it unsent, in the caller's transaction."""
    order.next_check_at = clock.now()
    order.save(force_insert=True)
    record_event(order, EventType.CREATED, actor=order.strategy or "orchestrator").save(
        force_insert=True
    )
    return withdraw(order)


def withdraw(order: Order) -> Order:
    """Cancel a stored order for the sake of its early cancel."""
    early = EarlyCancel.objects.get(account=order.account_id, intent_id=order.intent_id)
    return request_cancel(order, requested_by=early.requested_by, reason=early.reason)


def meet_early_cancels() -> int:
    """Request early cancels that a claim missed, and delete old ones. Return their number."""
    EarlyCancel.objects.filter(at__lt=clock.now() - KEPT_FOR).delete()
    met = 0
    for early in EarlyCancel.objects.all():
        rows = Order.objects.filter(account=early.account_id, intent_id=early.intent_id)
        for order in rows.filter(cancel_requested_at=None, closed_at=None):
            request_cancel(order, requested_by=early.requested_by, reason=early.reason)
            met += 1
    return met
