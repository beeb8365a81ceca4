"""Compare the limits of open orders with the market of their symbol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from exchanges import clock
from exchanges.known_prices import KnownPrice, market_price
from exchanges.models import LastPrice, MidPrice
from exchanges.types import Side
from orders import states
from orders.models import Order

#: An older price is shown with its age, because the market may have moved since.
FRESH = timedelta(seconds=60)

_Market = tuple[str, str, str]  # exchange, environment, symbol


@dataclass(frozen=True, slots=True)
class Distance:
    """The percentage that the market must move until it reaches a limit. Below zero: beyond it."""

    percent: Decimal
    known: KnownPrice

    @property
    def age(self) -> timedelta:
        return max(clock.now() - self.known.at, timedelta())

    @property
    def is_fresh(self) -> bool:
        return self.age <= FRESH


def attach_distances(rows: Iterable[Any]) -> None:
    """Set `row.distance` of each open order with a limit, with two queries for all rows.

    The rows come with `select_related("account")`. Others, and symbols without a price, get None.
    """
    open_rows = []
    for row in rows:
        row.distance = None
        if row.price is not None and row.status not in states.CLOSED:
            open_rows.append(row)
    if not open_rows:
        return
    symbols = {row.symbol for row in open_rows}
    mids, trades = _by_market(MidPrice, symbols), _by_market(LastPrice, symbols)
    now = clock.now()
    for row in open_rows:
        market = (row.account.exchange, row.account.environment, row.symbol)
        known = market_price(mids.get(market), trades.get(market), now)
        if known is not None and known.price > 0:
            row.distance = distance_of(row, known)


def _by_market(
    model: type[MidPrice | LastPrice], symbols: Iterable[str]
) -> dict[_Market, KnownPrice]:
    rows = model.objects.filter(symbol__in=symbols)
    return {(row.exchange, row.environment, row.symbol): row.known for row in rows}


def distance_of(order: Order, known: KnownPrice) -> Distance:
    """Return how far the market is from the order's limit."""
    assert order.price is not None
    away = known.price - order.price if order.side == Side.BUY else order.price - known.price
    return Distance(away / known.price * 100, known)
