"""Remember a cancel that overtook its submit, for an hour, and let the order meet it.

The claim looks for it and closes the order unsent. A claim that ran in the same moment may miss
it, and an order that a restore has lost is recovered without its intent, so the sweep looks for
such orders, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import EarlyCancel, EventType, Order
from orders.placing.cancel import request_cancel
from orders.placing.intent_order import names_of
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
    by_account: dict[ExchangeAccount, dict[str, EarlyCancel]] = defaultdict(dict)
    for early in EarlyCancel.objects.select_related("account"):
        names = names_of(early.account, early.intent_id)
        by_account[early.account] |= dict.fromkeys(names, early)
    return sum(_meet(account, early) for account, early in by_account.items())


def _meet(account: ExchangeAccount, early: Mapping[str, EarlyCancel]) -> int:
    """Request the early cancels of one account, given by the ids that their orders may have."""
    rows = Order.objects.filter(account=account, intent_id__in=[*early])
    found = list(rows.filter(cancel_requested_at=None, closed_at=None))
    for order in found:
        cancel = early[order.intent_id]
        request_cancel(order, requested_by=cancel.requested_by, reason=cancel.reason)
    return len(found)
