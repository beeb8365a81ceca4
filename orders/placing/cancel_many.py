"""Cancel many orders: record every request first, then cancel at the exchange."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Q

from exchanges import clock
from exchanges.acts import is_person_acting
from exchanges.binance.registry import get_gateway
from exchanges.errors import GatewayError, NotSent
from exchanges.key_holders import ask_a_worker, must_ask
from exchanges.models import ExchangeAccount, ScopedHalt, TradingHalt, TradingState
from orders.db_retry import with_db_retry
from orders.models import EventType, Order
from orders.placing.cancel import DRIVE_CANCELS, drive_cancel, record_cancels
from orders.placing.record import cancel_unsent
from orders.reconciliation.adopt import apply_reports
from orders.reconciliation.counts import RunCounts
from orders.recording.changes import TooMuchContention, log_fields
from orders.states import CLOSED, LOCAL, OPEN, OrderStatus

log = structlog.get_logger(__name__)

# From this many orders of a symbol on, one call cancels them all.
BY_SYMBOL_FROM = 5

# Locked in the order of their ids, so that two such statements can't wait for each other.
_REQUEST_CANCELS = """
WITH wanted AS (
  SELECT id FROM orders_order
   WHERE id = ANY(%(orders)s) AND status <> ALL(%(closed)s) AND cancel_requested_at IS NULL
   ORDER BY id FOR UPDATE
), requested AS (
  UPDATE orders_order o
     SET cancel_requested_at = %(now)s, cancel_requested_by = %(requested_by)s,
         next_check_at = CASE WHEN o.status = ANY(%(local)s) THEN %(now)s
                              ELSE COALESCE(next_check_at, %(now)s) END,
         version = version + 1
    FROM wanted WHERE o.id = wanted.id
  RETURNING o.id, o.status
)
INSERT INTO orders_orderevent
  (order_id, event_type, at, actor, previous_status, new_status, source, details)
SELECT id, %(event_type)s, %(now)s, %(requested_by)s, status, status, '', %(details)s::jsonb
  FROM requested
RETURNING order_id
"""


def request_cancels(orders: Iterable[UUID], *, requested_by: str, reason: str) -> int:
    """Record a cancel request for every order that isn't closed, with its event, at once.

    Return how many were recorded: an order that has a request keeps it. From then on the sweep
    cancels the rest.
    """
    parameters: dict[str, Any] = {
        "orders": list(orders),
        "closed": sorted(map(str, CLOSED)),
        "local": sorted(map(str, LOCAL)),
        "now": clock.now(),
        "requested_by": requested_by,
        "event_type": str(EventType.CANCEL_REQUESTED),
        "details": json.dumps({"reason": reason}),
    }

    def record() -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_REQUEST_CANCELS, parameters)
            requested = [key for (key,) in cursor.fetchall()]
            if is_person_acting():
                rows = Order.objects.filter(pk__in=requested).select_related("account")
                record_cancels(rows.order_by("pk"), requested_by=requested_by, reason=reason)
        return len(requested)

    count = with_db_retry(record)
    log.info("cancels_requested", count=count, requested_by=requested_by, reason=reason)
    return count


def cancel_orders(
    orders: Iterable[UUID], *, requested_by: str, reason: str, give_up_at: float
) -> None:
    """Record a cancel request for all orders, then cancel them until `give_up_at` (monotonic).

    One call cancels all open orders of a symbol if they are many and none is to stay. The sweep
    finishes the rest.
    """
    keys = list(orders)
    request_cancels(keys, requested_by=requested_by, reason=reason)
    for order in _orders(keys, [*LOCAL]):
        _one(order, requested_by=requested_by)
    elsewhere = [order.pk for order in _orders(keys, [*OPEN]) if must_ask(order.account)]
    if elsewhere:
        _let_a_worker_drive(elsewhere, give_up_at)
    here = [key for key in keys if key not in set(elsewhere)]
    drive_cancels(here, requested_by=requested_by, give_up_at=give_up_at)


def _let_a_worker_drive(keys: list[UUID], give_up_at: float) -> None:
    """Let a worker that has the keys send recorded cancels. The sweep finishes the rest."""
    seconds = max(give_up_at - clock.monotonic(), 0.0)
    with suppress(NotSent):  # logged there
        ask_a_worker(DRIVE_CANCELS, [*map(str, keys)], seconds, patience=seconds)


def drive_cancels(keys: list[UUID], *, requested_by: str, give_up_at: float) -> None:
    """Send the cancels that are recorded for these open orders, until `give_up_at`."""
    by_symbol: dict[tuple[int, str], ExchangeAccount] = {}
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for order in _orders(keys, [*OPEN]):
        key = (order.account_id, order.symbol)
        by_symbol[key] = order.account
        counts[key] += 1
    for (account_id, symbol), account in by_symbol.items():
        if counts[account_id, symbol] >= BY_SYMBOL_FROM and clock.monotonic() < give_up_at:
            _cancel_symbol(account, symbol)
    for order in _orders(keys, [*OPEN]):
        if clock.monotonic() < give_up_at:
            _one(order, requested_by=requested_by)


def _orders(keys: list[UUID], statuses: list[OrderStatus]) -> list[Order]:
    rows = Order.objects.filter(pk__in=keys, status__in=statuses, cancel_requested_at__isnull=False)
    rows = rows.select_related("account")
    return list(rows.order_by("created_at"))


def _one(order: Order, *, requested_by: str) -> None:
    """Cancel one order. A failure must not stop the others."""
    try:
        if order.status in LOCAL:
            cancel_unsent(order)
        else:
            drive_cancel(get_gateway(order.account), order)
    except (GatewayError, TooMuchContention) as error:
        log.warning(
            "cancel_deferred", **log_fields(order), requested_by=requested_by, error=str(error)
        )


def _cancel_symbol(account: ExchangeAccount, symbol: str) -> None:
    """Cancel all open orders of a symbol with one call, if none of them is to stay."""
    if not _is_halted(account, symbol) or _keeps_some(account, symbol):
        return
    try:
        reports = get_gateway(account).cancel_open_orders(symbol)
        apply_reports(account, reports, RunCounts())
    except (GatewayError, TooMuchContention) as error:  # they are canceled one by one
        log.warning("symbol_not_canceled", account=account.name, symbol=symbol, error=str(error))


def _is_halted(account: ExchangeAccount, symbol: str) -> bool:
    """Return whether a halt keeps new orders away, which such a call would also cancel."""
    if TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).exists():
        return True
    halted = ExchangeAccount.objects.filter(pk=account.pk, trading_state=TradingState.HALTED)
    of_symbol = ScopedHalt.objects.filter(
        Q(account=None) | Q(account=account), symbol=symbol, strategy=""
    )
    return halted.exists() or of_symbol.exists()


def _keeps_some(account: ExchangeAccount, symbol: str) -> bool:
    unclosed = [status for status in OrderStatus if status not in CLOSED]
    rows = Order.objects.filter(account=account, symbol=symbol, status__in=unclosed)
    return rows.filter(cancel_requested_at=None).exists()
