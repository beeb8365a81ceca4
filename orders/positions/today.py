"""Read today's realized result (UTC) by symbol, by the rule of `average_cost`.

One statement reads the account's position rows and the fills that they don't hold yet, so an order
pays for the fills of the last seconds only: `store.advance_recent` adds the others to the rows. If
a late fill makes the recent positions wrong, the statement reads the rows as of the cursor and all
fills since. The result is always that of all fills in the database, in the exchange's order.

A result is net of commissions: those in the quote and the base asset by the rule itself, those in a
third asset (BNB) at its last known price in the quote asset. One without a price isn't in the
result, which names its asset: the true result is lower, by an unknown amount. A strategy has no
result of its own, because its trades share one average cost with all others on their symbol.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from exchanges.errors import NotSent
from exchanges.types import EXACT, Side
from orders.positions.average_cost import Holding, Trade, apply_trades, in_order
from orders.positions.store import amounts, recent_holding

ZERO = Decimal(0)
# An order waits instead of adding up more fills than this.
MOST_UNFOLDED = 20_000

_STATEMENT = """
WITH account AS (
  SELECT a.exchange, a.environment, COALESCE(c.folded_fill_id, 0) AS folded,
         c.recent_fill_id AS recent, c.recent_count, c.recent_traded_at
    FROM exchanges_exchangeaccount a LEFT JOIN orders_positioncursor c ON c.account_id = a.id
   WHERE a.id = %(account)s
), start AS (
  SELECT *, CASE WHEN recent > folded AND recent_count = (
      SELECT COUNT(*) FROM orders_fill
       WHERE account_id = %(account)s AND id > account.folded AND id <= account.recent
    ) AND NOT EXISTS (
      SELECT FROM orders_fill
       WHERE account_id = %(account)s AND id > account.recent
         AND traded_at <= account.recent_traded_at
    ) THEN recent ELSE folded END AS fill_id
    FROM account
), position AS (
  SELECT p.symbol, p.base_asset, p.fee_prices,
         CASE WHEN start.fill_id > start.folded AND p.recent->>'start' = start.folded::text
              THEN p.recent
              ELSE jsonb_build_object(
                'quantity', p.quantity::text, 'cost', p.cost::text, 'day', p.day,
                'day_realised', p.day_realised::text, 'day_fees', p.day_fees) END AS recent
    FROM orders_position p, start
   WHERE p.account_id = %(account)s AND p.quote_asset = %(currency)s
), unfolded AS MATERIALIZED (
  SELECT * FROM orders_fill
   WHERE account_id = %(account)s AND id > (SELECT fill_id FROM start)
   ORDER BY id LIMIT %(most)s + 1
), fill AS (
  SELECT f.symbol, i.base_asset, f.side, f.quantity::text, f.quote_quantity::text,
         f.commission::text, f.commission_asset, f.traded_at, f.trade_id
    FROM unfolded f, start, exchanges_instrument i
   WHERE i.exchange = start.exchange AND i.environment = start.environment
     AND i.symbol = f.symbol AND i.quote_asset = %(currency)s
)
SELECT (SELECT COUNT(*) FROM unfolded),
       (SELECT COALESCE(json_agg(position), '[]') FROM position),
       (SELECT COALESCE(json_agg(fill), '[]') FROM fill)
"""


@dataclass(frozen=True, slots=True)
class _Rows:
    positions: list[dict[str, Any]]
    fills: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """A realized result, without the commissions in the assets that have no price."""

    net: Decimal
    unpriced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Loss:
    """A realized loss, negative if it is a gain, without the commissions in `unpriced` assets."""

    amount: Decimal
    unpriced: frozenset[str] = frozenset()


def loss_today(account_id: int, currency: str, symbol: str, now: datetime) -> Loss:
    """Return the day's realized loss in `currency`, on one symbol or (empty) on all quoted in it.

    Raises `NotSent` like `results_today`.
    """
    results = results_today(account_id, currency, now)
    counted = [result for name, result in results.items() if symbol in ("", name)]
    total = ZERO
    for result in counted:
        total = EXACT.subtract(total, result.net)
    return Loss(total, frozenset().union(*(result.unpriced for result in counted)))


def results_today(account_id: int, currency: str, now: datetime) -> dict[str, Result]:
    """Return today's realized result by symbol, net, in the quote asset `currency`.

    Raises `NotSent` if it would have to add up more than `MOST_UNFOLDED` fills.
    """
    rows = _read(account_id, currency)
    today = now.astimezone(UTC).date()
    prices = {row["symbol"]: amounts(row["fee_prices"]) for row in rows.positions}
    # A price from another symbol with the same quote asset is as good.
    shared = {asset: price for own in prices.values() for asset, price in own.items()}
    return {
        symbol: _result(holding, {**shared, **prices.get(symbol, {})})
        for symbol, holding in _holdings(rows, currency, now).items()
        if holding.day == today
    }


def _read(account_id: int, currency: str) -> _Rows:
    given: dict[str, int | str] = {
        "account": account_id,
        "currency": currency,
        "most": MOST_UNFOLDED,
    }
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, given)
        unfolded, positions, fills = cursor.fetchone()
    if unfolded > MOST_UNFOLDED:
        raise NotSent(
            "too many fills are in no position yet, so today's result is unknown", retry_after=None
        )
    return _Rows(positions, fills)


def _holdings(rows: _Rows, currency: str, now: datetime) -> dict[str, Holding]:
    holdings = {
        row["symbol"]: recent_holding(row["base_asset"], currency, row["recent"])
        for row in rows.positions
    }
    trades: dict[str, list[Trade]] = defaultdict(list)
    for fill in rows.fills:
        holdings.setdefault(fill["symbol"], Holding(fill["base_asset"], currency))
        trades[fill["symbol"]].append(_trade(fill).not_after(now))
    for symbol, added in trades.items():
        holdings[symbol] = apply_trades(holdings[symbol], in_order(added))
    return holdings


def _result(holding: Holding, prices: Mapping[str, Decimal]) -> Result:
    net, unpriced = holding.day_realized, set()
    for asset, amount in holding.day_fees.items():
        if asset in prices:
            net = EXACT.subtract(net, EXACT.multiply(amount, prices[asset]))
        elif amount:
            unpriced.add(asset)
    return Result(net, frozenset(unpriced))


def _trade(fill: Mapping[str, str]) -> Trade:
    return Trade(
        side=Side(fill["side"]),
        quantity=Decimal(fill["quantity"]),
        quote_quantity=Decimal(fill["quote_quantity"]),
        commission=Decimal(fill["commission"]),
        commission_asset=fill["commission_asset"],
        traded_at=datetime.fromisoformat(fill["traded_at"]),
        trade_id=fill["trade_id"],
    )
