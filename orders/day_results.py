"""What an account has realised today (UTC), by symbol: the rule is `holdings.py`'s, weighted average cost.

One statement reads the account's position rows, which hold the fold of nearly all fills ever, and the fills since
(`positions.py`: those of the last two minutes, while the beat runs). What this process has folded already it keeps, so
that an order pays for the fills since the order before. It starts anew where the rows have moved on, where a fill with
a lower number was committed later, and where one comes that was traded before another: the result is always that of all
fills that the database holds, in the exchange's order.

A result is net of commissions: those in the quote and the base asset by the rule itself, those in a third asset (BNB)
at its last known price in the quote asset; one that has no price is not counted. A strategy has no result of its own,
as its trades share one average cost with all others on their symbol.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from exchanges.errors import NotSent
from exchanges.types import EXACT, Side
from orders.holdings import Holding, Trade, fold, in_order

ZERO = Decimal(0)
# More fills than that which no position row holds yet are not added up for an order: it waits for the fold.
MOST_UNFOLDED = 20_000

# Up to where the rows are folded; how many fills up to the newest one that is known here, and that one's mark; the
# rows; and the fills that are not known here.
_STATEMENT = """
WITH c AS (SELECT COALESCE(
  (SELECT folded_fill_id FROM orders_positioncursor WHERE account_id = %(account)s), 0) AS folded)
SELECT c.folded,
       (SELECT COUNT(*) FROM orders_fill
         WHERE account_id = %(account)s AND id > (SELECT folded FROM c) AND id <= %(newest)s),
       (SELECT CAST(traded_at AS text) || ' ' || trade_id FROM orders_fill
         WHERE account_id = %(account)s AND id = %(newest)s),
       (SELECT {aggregate}({array}(p.symbol, p.base_asset, CAST(p.quantity AS text), CAST(p.cost AS text),
                                   CAST(p.day AS text), CAST(p.day_realised AS text), p.day_fees, p.fee_prices))
          FROM orders_position p WHERE p.account_id = %(account)s AND p.quote_asset = %(currency)s),
       (SELECT {aggregate}({array}(f.id, CAST(f.traded_at AS text) || ' ' || f.trade_id, i.quote_asset, f.symbol,
                                   i.base_asset, f.side, CAST(f.quantity AS text), CAST(f.quote_quantity AS text),
                                   CAST(f.commission AS text), f.commission_asset, f.traded_at, f.trade_id))
          FROM (SELECT * FROM orders_fill
                 WHERE account_id = %(account)s
                   AND id > (SELECT CASE WHEN folded = %(folded)s THEN %(newest)s ELSE folded END FROM c)
                 ORDER BY id LIMIT %(most)s) f
          JOIN exchanges_exchangeaccount a ON a.id = f.account_id
          LEFT JOIN exchanges_instrument i
            ON i.exchange = a.exchange AND i.environment = a.environment AND i.symbol = f.symbol)
  FROM c
"""
_JSON = {
    "sqlite": {"aggregate": "json_group_array", "array": "json_array"},
    "postgresql": {"aggregate": "json_agg", "array": "json_build_array"},
}


@dataclass(frozen=True, slots=True)
class _Known:
    """The holdings in one currency with every fill up to `newest`, on rows that hold those up to `folded`."""

    folded: int = -1
    newest: int = 0
    count: int = 0  # of the fills between
    mark: str | None = None  # tells the newest one from another of its number, in a database that was restored
    holdings: Mapping[str, Holding] | None = None
    latest: datetime | None = None  # when the last of the trades was executed


@dataclass(frozen=True, slots=True)
class _Reading:
    folded: int
    count: int
    mark: str | None
    positions: list[Any]
    fills: list[Any]


_known: dict[tuple[int, str], _Known] = {}


def loss_today(account_id: int, currency: str, symbol: str, now: datetime) -> Decimal:
    """The day's realised loss in a currency, on one symbol or (an empty one) on all that are quoted in it."""
    total = ZERO
    for name, result in results_today(account_id, currency, now).items():
        if symbol in ("", name):
            total = EXACT.subtract(total, result)
    return total


def results_today(account_id: int, currency: str, now: datetime) -> dict[str, Decimal]:
    """Symbol -> what was realised on it today, net, in its quote asset `currency`.

    Raises `NotSent` where more than `MOST_UNFOLDED` fills would have to be added up.
    """
    key = (account_id, currency)
    known = _known.get(key, _Known())
    reading = _read(account_id, currency, known)
    after = _after(known, reading, currency)
    if after is None:
        reading = _read(account_id, currency, _Known())
        after = _after(_Known(), reading, currency)
    assert after is not None
    _known[key] = after
    today = now.astimezone(UTC).date()
    prices = {row[0]: _figures(row[7]) for row in reading.positions}
    held = after.holdings or {}
    return {name: _net(holding, prices.get(name, {})) for name, holding in held.items() if holding.day == today}


def _read(account_id: int, currency: str, known: _Known) -> _Reading:
    figures: dict[str, int | str] = {
        "account": account_id,
        "currency": currency,
        "folded": known.folded,
        "newest": known.newest,
        "most": MOST_UNFOLDED + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT.format(**_JSON[connection.vendor]), figures)
        folded, count, mark, *lists = cursor.fetchone()
    positions, fills = (json.loads(part) if isinstance(part, str) else part or [] for part in lists)
    if len(fills) + (count if folded == known.folded else 0) > MOST_UNFOLDED:
        raise NotSent("too many fills are in no position yet to tell the result of the day", retry_after=None)
    return _Reading(folded, count, mark, positions, fills)


def _after(known: _Known, reading: _Reading, currency: str) -> _Known | None:
    """The known holdings with what was read; None where what is known cannot be gone on from and was not read anew."""
    goes_on = reading.folded == known.folded
    if goes_on and (reading.count, reading.mark) != (known.count, known.mark):
        return None
    new = sorted(reading.fills, key=lambda row: int(row[0]))
    trades: dict[str, list[Trade]] = defaultdict(list)
    holdings = dict(known.holdings or {}) if goes_on else {row[0]: _holding(row, currency) for row in reading.positions}
    for _number, _mark, quote_asset, symbol, base_asset, *figures in new:
        if quote_asset == currency:
            holdings.setdefault(symbol, Holding(base_asset, currency))
            trades[symbol].append(_trade(*figures))
    times = [trade.traded_at for row in trades.values() for trade in row]
    if goes_on and known.latest is not None and times and min(times) <= known.latest:
        return None
    for symbol, added in trades.items():
        holdings[symbol] = fold(holdings[symbol], in_order(added))
    latest = max(times, default=known.latest if goes_on else None)
    count = len(new) + (known.count if goes_on else 0)
    if not new:
        newest, mark = (known.newest, known.mark) if goes_on else (0, None)
    else:
        newest, mark = new[-1][0], new[-1][1]
    return _Known(reading.folded, newest, count, mark, holdings, latest)


def _net(holding: Holding, prices: Mapping[str, Decimal]) -> Decimal:
    net = holding.day_realised
    for asset, amount in holding.day_fees.items():
        net = EXACT.subtract(net, EXACT.multiply(amount, prices.get(asset, ZERO)))
    return net


def _holding(row: list[Any], currency: str) -> Holding:
    _symbol, base_asset, quantity, cost, day, day_realised, day_fees, _prices = row
    return Holding(
        base_asset=base_asset,
        quote_asset=currency,
        quantity=Decimal(quantity),
        cost=Decimal(cost),
        day=None if day is None else date.fromisoformat(day),
        day_realised=Decimal(day_realised),
        day_fees=_figures(day_fees),
    )


def _trade(
    side: str, quantity: str, quote_quantity: str, commission: str, commission_asset: str, at: str, trade_id: str
) -> Trade:
    traded_at = datetime.fromisoformat(at)
    return Trade(
        side=Side(side),
        quantity=Decimal(quantity),
        quote_quantity=Decimal(quote_quantity),
        commission=Decimal(commission),
        commission_asset=commission_asset,
        # SQLite's text has no zone; it is UTC.
        traded_at=traded_at if traded_at.tzinfo else traded_at.replace(tzinfo=UTC),
        trade_id=trade_id,
    )


def _figures(found: str | Mapping[str, str]) -> dict[str, Decimal]:
    """A JSON column within JSON: an object on PostgreSQL, its text on SQLite."""
    given = json.loads(found) if isinstance(found, str) else found
    return {asset: Decimal(amount) for asset, amount in given.items()}
