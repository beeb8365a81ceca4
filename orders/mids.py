"""Read the mids of the symbols that somebody trades, once for all accounts of an environment."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection

from exchanges import clock
from exchanges.mirror import prices
from exchanges.models import ExchangeAccount

_RECENT = timedelta(hours=1)
# Few rows of each account, by the indexes `order_open` and `order_account_newest`, so that the cost
# doesn't grow with the orders.
_SYMBOLS = """
WITH account AS (
  SELECT id FROM exchanges_exchangeaccount WHERE exchange = %s AND environment = %s
)
SELECT o.symbol
  FROM account a JOIN orders_order o
    ON o.account_id = a.id AND o.status IN ('NEW', 'PARTIALLY_FILLED')
UNION
SELECT newest.symbol
  FROM account a CROSS JOIN LATERAL (
    SELECT o.symbol FROM orders_order o
     WHERE o.account_id = a.id AND o.created_at > %s
     ORDER BY o.created_at DESC LIMIT 100
  ) newest
"""


def refresh_mids(account: ExchangeAccount) -> dict[str, int]:
    """Store the best bid and ask of the symbols in use. Return how many are in use and stored."""
    symbols = symbols_in_use(account.exchange, account.environment)
    stored = prices.refresh_mids(account, symbols) if symbols else 0
    return {"symbols": len(symbols), "stored": stored}


def symbols_in_use(exchange: str, environment: str) -> list[str]:
    """Return the symbols of the open orders, and of each account's newest orders of the hour."""
    with connection.cursor() as cursor:
        cursor.execute(_SYMBOLS, [exchange, environment, clock.now() - _RECENT])
        return [symbol for (symbol,) in cursor.fetchall()]
