"""What was sent before under one row of limits, read under a lock on that row, so that parallel claims count right.

The built-in limits of a live account have no row to lock: as many orders as there are workers may slip through at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Q, QuerySet

from exchanges.models import Balance
from exchanges.types import EXACT, InstrumentRules, Side
from orders.day_results import loss_today
from orders.intents import Intent
from orders.models import ExchangeOrder, Order, RiskLimit
from orders.risk_limits import Limits, Usage
from orders.states import CLOSED, IN_FLIGHT, OPEN

ZERO = Decimal(0)


def lock_rows(rows: Iterable[Limits]) -> None:
    """One claim at a time counts under a row. Call it in the claim's transaction, after the account was locked."""
    ids = [row.id for row in rows if row.id is not None]
    list(RiskLimit.objects.filter(pk__in=ids).order_by("pk").select_for_update().values_list("pk"))


def read_usage(row: Limits, account_id: int, intent: Intent, rules: InstrumentRules, now: datetime) -> Usage:
    """Only what the row limits is read."""
    scope = Q(account_id=account_id)
    if row.symbol:
        scope &= Q(symbol=row.symbol)
    orders = Order.objects.filter(scope).exclude(intent_id=intent.intent_id)
    if row.strategy:
        orders = orders.filter(strategy=row.strategy)
    today = orders.filter(
        created_at__gte=now.replace(hour=0, minute=0, second=0, microsecond=0), attempt__gt=0, is_external=False
    )
    return Usage(
        open_orders=0 if row.max_open_orders is None else orders.filter(status__in=[*IN_FLIGHT, *OPEN]).count(),
        orders_this_second=_sent_this_second(row, account_id, now),
        orders_today=0 if row.max_orders_per_day is None else today.count(),
        notional_today=ZERO if row.max_notional_per_day is None else _notional(today, rules.quote_asset),
        loss_today=ZERO if row.max_daily_loss is None else loss_today(account_id, row.currency, row.symbol, now),
        position=ZERO if row.max_position is None else _position(account_id, rules),
        identical_orders=0 if row.max_identical_orders is None else _identical(orders, row, intent, now),
    )


def _sent_this_second(row: Limits, account_id: int, now: datetime) -> int:
    """At most as many as are allowed are looked at, the newest first: by the primary key, which needs no index more."""
    if row.max_orders_per_second is None:
        return 0
    attempts = ExchangeOrder.objects.filter(account_id=account_id, request_timestamp_ms__isnull=False)
    if row.symbol:
        attempts = attempts.filter(symbol=row.symbol)
    if row.strategy:
        attempts = attempts.filter(order__strategy=row.strategy)
    newest = attempts.order_by("-id").values_list("sent_at", flat=True)[: row.max_orders_per_second]
    return sum(sent_at is not None and now - sent_at < timedelta(seconds=1) for sent_at in newest)


def _notional(orders: QuerySet[Order], quote_asset: str) -> Decimal:
    """What today's orders are worth: as filled where they are over, else as ordered. Added up in Python, exactly."""
    total = ZERO
    rows = orders.filter(symbol__endswith=quote_asset)
    for row in rows.only("status", "quantity", "quote_quantity", "price", "filled_quote_quantity").iterator():
        value = row.filled_quote_quantity
        if row.status not in CLOSED:
            asked = row.quote_quantity
            if asked is None and row.price is not None and row.quantity is not None:
                asked = EXACT.multiply(row.price, row.quantity)
            value = max(value, asked or ZERO)
        total = EXACT.add(total, value)
    return total


def _position(account_id: int, rules: InstrumentRules) -> Decimal:
    """What the account has of the base asset, and what its open buys of this symbol may add."""
    held = Balance.objects.filter(account_id=account_id, asset=rules.base_asset).first()
    total = EXACT.add(held.free, held.locked) if held else ZERO
    buys = Order.objects.filter(
        account_id=account_id, symbol=rules.symbol, side=Side.BUY, status__in=[*IN_FLIGHT, *OPEN]
    )
    for quantity, filled in buys.values_list("quantity", "filled_quantity"):
        total = EXACT.add(total, max(ZERO, EXACT.subtract(quantity or ZERO, filled)))
    return total


def _identical(orders: QuerySet[Order], row: Limits, intent: Intent, now: datetime) -> int:
    """Equal to the last digit, and sent within the window."""
    same = {name: getattr(intent, name) for name in ("symbol", "quantity", "quote_quantity", "price", "stop_price")}
    recent = orders.filter(created_at__gt=now - timedelta(seconds=row.identical_window), attempt__gt=0)
    return recent.filter(side=str(intent.side), order_type=str(intent.order_type), **same).count()
