"""Compare the limits of open orders with the last trade of their symbol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from exchanges import clock
from exchanges.models import LastPrice
from exchanges.types import Side
from orders import states
from orders.models import Order

#: An older last trade is shown with its age, because the market may have moved since.
FRESH = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Distance:
    """The percentage that the market must move until it reaches a limit. Below zero: beyond it."""

    percent: Decimal
    last_price: Decimal
    traded_at: datetime

    @property
    def age(self) -> timedelta:
        return clock.now() - self.traded_at

    @property
    def is_fresh(self) -> bool:
        return self.age <= FRESH


def attach_distances(rows: Iterable[Any]) -> None:
    """Set `row.distance` of each open order with a limit, with one query for all rows.

    The rows come with `select_related("account")`. Others, and symbols without a price, get None.
    """
    open_rows = []
    for row in rows:
        row.distance = None
        if row.price is not None and row.status not in states.CLOSED:
            open_rows.append(row)
    if not open_rows:
        return
    prices = {
        (one.exchange, one.environment, one.symbol): one
        for one in LastPrice.objects.filter(symbol__in={row.symbol for row in open_rows})
    }
    for row in open_rows:
        last = prices.get((row.account.exchange, row.account.environment, row.symbol))
        if last is not None and last.price > 0:
            row.distance = distance_of(row, last)


def distance_of(order: Order, last: LastPrice) -> Distance:
    """Return how far the last trade is from the order's limit."""
    assert order.price is not None
    away = last.price - order.price if order.side == Side.BUY else order.price - last.price
    return Distance(away / last.price * 100, last.price, last.traded_at)
