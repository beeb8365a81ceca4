"""Value balances in one currency, by the newest known price. Without a price a value is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from exchanges.mirror.money import money_assets
from exchanges.models import Balance, Instrument, LastPrice
from exchanges.types import EXACT
from orders.models import Position

PREFERRED = "USDT"


@dataclass(frozen=True, slots=True)
class Value:
    """The worth of a balance, and the time of the price behind it. None: it needs no price."""

    amount: Decimal
    priced_at: datetime | None = None


def currencies(rows: Iterable[Balance]) -> list[str]:
    """Return the currencies in which these balances can be valued, the preferred one first."""
    places = {(row.account.exchange, row.account.environment) for row in rows}
    found = sorted(set().union(*(money_assets(*place) for place in places)))
    return sorted(found, key=lambda asset: asset != PREFERRED)


def values_of(rows: Iterable[Balance], currency: str) -> dict[int, Value]:
    """Return the known values by the balance's key, with a fixed number of queries.

    A price is that of the pair with the currency: the last trade that the gate asked for, or the
    one of a position, whichever is newer.
    """
    rows = list(rows)
    symbols = _symbols(rows, currency)
    prices = _prices(rows, set(symbols.values()))
    found: dict[int, Value] = {}
    for row in rows:
        total = EXACT.add(row.free, row.locked)
        place = (row.account.exchange, row.account.environment)
        if row.asset == currency or not total:
            found[row.pk] = Value(total)
        elif price := prices.get((*place, symbols.get((*place, row.asset), ""))):
            found[row.pk] = Value(EXACT.multiply(total, price[1]), price[0])
    return found


def _symbols(rows: list[Balance], currency: str) -> dict[tuple[str, str, str], str]:
    """Return the symbol of each asset's pair with the currency, by place and asset."""
    pairs = Instrument.objects.filter(
        base_asset__in={row.asset for row in rows}, quote_asset=currency
    )
    return {(each.exchange, each.environment, each.base_asset): each.symbol for each in pairs}


def _prices(
    rows: list[Balance], symbols: set[str]
) -> dict[tuple[str, str, str], tuple[datetime, Decimal]]:
    """Return time and price of each symbol, by place and symbol."""
    accounts = {row.account_id: row.account for row in rows}
    found: dict[tuple[str, str, str], tuple[datetime, Decimal]] = {}
    for each in LastPrice.objects.filter(symbol__in=symbols):
        _keep(found, (each.exchange, each.environment, each.symbol), each.asked_at, each.price)
    for row in Position.objects.filter(symbol__in=symbols, account__in=accounts):
        account = accounts[row.account_id]
        if row.last_price is not None and row.priced_at is not None:
            place = (account.exchange, account.environment, row.symbol)
            _keep(found, place, row.priced_at, row.last_price)
    return found


def _keep(
    found: dict[tuple[str, str, str], tuple[datetime, Decimal]],
    key: tuple[str, str, str],
    at: datetime,
    price: Decimal,
) -> None:
    if key not in found or at > found[key][0]:
        found[key] = (at, price)
