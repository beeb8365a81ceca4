"""Find the orders whose next step is due, and their accounts."""

from __future__ import annotations

from django.db.models import Min

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import Order
from orders.states import LOCAL, OrderStatus

BATCH = 200


def due_accounts() -> list[ExchangeAccount]:
    """Return the accounts with a due order, the one with the longest overdue order first."""
    due = Order.objects.filter(next_check_at__lte=clock.now()).order_by()
    oldest = dict(due.values_list("account_id").annotate(Min("next_check_at")))
    rows = ExchangeAccount.objects.in_bulk(oldest)
    return [rows[key] for key in sorted(oldest, key=lambda key: (oldest[key], key))]


def due_orders(
    account: ExchangeAccount, *, only_unsent: bool = False, may_place: bool = True
) -> list[Order]:
    """Return the account's due orders, at most `BATCH` of each kind.

    Orders to cancel come first, so that no backlog of others holds them up. Then the longest
    overdue. Without `may_place`, those that would only be sent are left out.
    """
    rows = Order.objects.filter(account=account, next_check_at__lte=clock.now())
    if only_unsent:
        rows = rows.filter(status__in=[*LOCAL])
    rows = rows.select_related("account").order_by("next_check_at")
    others = rows.filter(cancel_requested_at=None)
    if not may_place:
        others = others.exclude(status=OrderStatus.CREATED)
    # The condition of `order_to_cancel`, word by word, so that no backlog of others is read.
    to_cancel = rows.filter(next_check_at__isnull=False, cancel_requested_at__isnull=False)
    return [*to_cancel[:BATCH], *others[:BATCH]]
