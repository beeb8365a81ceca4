"""Fill the book with a year's orders, for the desk's tests and benchmarks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection

from exchanges import clock
from exchanges.models import Environment, ExchangeAccount, Instrument
from tests.factories import exchange_filters

ACCOUNTS = 8
CHUNK = 20_000  # a statement has 15 s
BASES = ("BTC", "ETH", "SOL", "XRP", "BNB", "DOGE", *(f"ALT{number}" for number in range(194)))

# One order of 50 is closed without a fill in each of the rare ways, and one of 5,000 is working.
# Numbers are spread by multiplying with primes, so that no figure follows from another.
_ORDERS = """
INSERT INTO orders_order (
  id, account_id, intent_id, symbol, side, order_type, time_in_force, quantity, price, status,
  verdict, reason_code, reason, exchange_order_id, filled_quantity, filled_quote_quantity,
  average_price, strategy, is_external, place_by, cancel_requested_by, created_at, submitted_at,
  acknowledged_at, closed_at, attempt, version, next_check_at, check_count, open_attempts)
SELECT
  (lpad(to_hex(extract(epoch FROM at)::bigint * 1000), 12, '0') || '7000'
    || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
  account, 'intent-' || n, symbol, CASE WHEN n %% 2 = 0 THEN 'BUY' ELSE 'SELL' END,
  CASE WHEN n %% 5 = 0 THEN 'MARKET' ELSE 'LIMIT' END,
  CASE WHEN n %% 5 = 0 THEN '' ELSE 'GTC' END,
  3, CASE WHEN n %% 5 = 0 THEN NULL ELSE 100 + n %% 900 END, status,
  CASE WHEN status IN ('DENIED', 'NOT_PLACED') THEN status ELSE 'CREATED' END,
  CASE WHEN status = 'DENIED' THEN 'MAX_NOTIONAL' ELSE '' END,
  CASE WHEN status = 'DENIED' THEN 'notional 2000 is above the limit of 1000' ELSE '' END,
  CASE WHEN status IN ('CREATED', 'PENDING_NEW', 'DENIED', 'NOT_PLACED', 'REJECTED') THEN ''
    ELSE (10000000000 + n)::text END,
  CASE WHEN status = 'FILLED' THEN 3 ELSE 0 END,
  CASE WHEN status = 'FILLED' THEN 3 * (100 + n %% 900) ELSE 0 END,
  CASE WHEN status = 'FILLED' THEN 100 + n %% 900 END,
  CASE WHEN n %% 4999 = 0 THEN 'seldom' ELSE 'strategy-' || n %% 17 END, n %% 20011 = 0,
  at + interval '30 s', '', at, at, at,
  CASE WHEN status IN ('CREATED', 'PENDING_NEW', 'NEW', 'PARTIALLY_FILLED') THEN NULL
    ELSE at + interval '1 s' END,
  1, 3, CASE WHEN status IN ('CREATED', 'PENDING_NEW') THEN at END, 0,
  CASE WHEN status = 'PENDING_NEW' THEN 1 ELSE 0 END
FROM (
  SELECT n,
    (%(accounts)s::bigint[])[1 + (n * 7919) %% %(account_count)s] AS account,
    (%(symbols)s::text[])[1 + (power((n * 104729) %% 10007 / 10007.0, 3)
      * %(symbol_count)s)::int %% %(symbol_count)s] AS symbol,
    %(now)s::timestamptz - (%(count)s - n) * interval '30 s' AS at,
    CASE
      WHEN n > %(count)s - 5 THEN 'CREATED'
      WHEN n > %(count)s - 20 THEN 'PENDING_NEW'
      WHEN n %% 5003 = 0 THEN 'NEW'
      WHEN n %% 20101 = 0 THEN 'PARTIALLY_FILLED'
      WHEN n %% 50 = 1 THEN 'CANCELED'
      WHEN n %% 50 = 2 THEN 'EXPIRED'
      WHEN n %% 500 = 3 THEN 'REJECTED'
      WHEN n %% 500 = 4 THEN 'DENIED'
      WHEN n %% 5000 = 6 THEN 'NOT_PLACED'
      ELSE 'FILLED'
    END AS status
  FROM generate_series(%(first)s, %(last)s::bigint) AS n
) AS drawn
"""
_ATTEMPTS = """
INSERT INTO orders_exchangeorder (
  order_id, account_id, attempt, client_order_id, exchange_order_id, symbol, outcome,
  exchange_status, quantity, price, filled_quantity, filled_quote_quantity, fills_quantity,
  fills_quote_quantity, request_timestamp_ms, recv_window_ms, sent_at, acknowledged_at)
SELECT id, account_id, 1,
  'bo-' || substr(md5(intent_id) || md5(symbol), 1, 26) || '-1', exchange_order_id, symbol,
  CASE status WHEN 'PENDING_NEW' THEN 'UNKNOWN' WHEN 'REJECTED' THEN 'REJECTED'
    WHEN 'NOT_PLACED' THEN 'ABSENT' ELSE 'ACKNOWLEDGED' END,
  CASE WHEN exchange_order_id = '' THEN '' ELSE status END, quantity, price, filled_quantity,
  filled_quote_quantity, filled_quantity, filled_quote_quantity,
  extract(epoch FROM created_at)::bigint * 1000, 5000, created_at, created_at
FROM orders_order
WHERE status NOT IN ('CREATED', 'DENIED') AND created_at BETWEEN %(from)s AND %(to)s
"""
_FILLS = """
INSERT INTO orders_fill (
  order_id, exchange_order_id, account_id, symbol, trade_id, side, quantity, price,
  quote_quantity, commission, commission_asset, is_maker, traded_at)
SELECT o.id, e.id, o.account_id, o.symbol,
  (20000000000 + (e.exchange_order_id::bigint - 10000000000) * 4 + part)::text, o.side,
  CASE WHEN part = 1 THEN o.filled_quantity - %(parts)s + 1 ELSE 1 END,
  o.average_price, o.average_price, 0.1, 'USDT', part = 2, o.created_at
FROM orders_order o JOIN orders_exchangeorder e ON e.order_id = o.id,
  generate_series(1, %(parts)s) AS part
WHERE o.status = 'FILLED' AND o.created_at BETWEEN %(from)s AND %(to)s
"""
_CATCH_UPS = """
INSERT INTO exchanges_symbolcatchup (account_id, symbol, failed_looks)
SELECT DISTINCT account_id, symbol, 0 FROM orders_order
"""


def fill_book(count: int, *, fills_each: int = 3) -> None:
    """Store so many orders, each with its request and, if it is filled, its fills."""
    accounts = [
        ExchangeAccount.objects.create(name=f"desk-{number}", environment=Environment.SIMULATOR)
        for number in range(ACCOUNTS)
    ]
    Instrument.objects.bulk_create(
        Instrument(
            environment=Environment.SIMULATOR,
            symbol=f"{base}USDT",
            base_asset=base,
            quote_asset="USDT",
            status="TRADING",
            filters=exchange_filters(),
        )
        for base in BASES
    )
    now = clock.now()
    values: dict[str, Any] = {
        "accounts": [account.pk for account in accounts],
        "account_count": ACCOUNTS,
        "symbols": [f"{base}USDT" for base in BASES],
        "symbol_count": len(BASES),
        "count": count,
        "now": now,
        "parts": fills_each,
    }
    with connection.cursor() as cursor:
        for first in range(1, count + 1, CHUNK):
            last = min(count, first + CHUNK - 1)
            values |= {
                "first": first,
                "last": last,
                "from": now - (count - first) * timedelta(seconds=30),
                "to": now - (count - last) * timedelta(seconds=30),
            }
            for statement in (_ORDERS, _ATTEMPTS, _FILLS):
                cursor.execute(statement, values)
        cursor.execute(_CATCH_UPS)


def analyze() -> None:
    """Vacuum and analyze, as autovacuum does. It can't run inside a transaction."""
    with connection.cursor() as cursor:
        for table in ("orders_order", "orders_exchangeorder", "orders_fill", "orders_orderevent"):
            cursor.execute(f"VACUUM ANALYZE {table}")


# -- Pages over it ---------------------------------------------------------------------------------

LIST = "/admin/orders/order/"
PAGES = {
    "fills": "/admin/orders/fill/",
    "events": "/admin/orders/orderevent/",
    "breaks": "/admin/orders/reconciliationbreak/",
}
# As the filter by phase names them.
PHASES = ("open", "unresolved", "closed", "held", "cancel_wished")


def filters() -> dict[str, dict[str, str]]:
    """Return one address for each filter, rare and empty answers included."""
    account = str(ExchangeAccount.objects.order_by("pk").values_list("pk", flat=True)[0])
    day = clock.now() - timedelta(days=2)
    date = f"{day:%Y-%m-%d}"
    statuses = ("FILLED", "CANCELED", "REJECTED", "DENIED", "NOT_PLACED", "EXPIRED", "NEW")
    return {
        **{phase: {"phase": phase} for phase in PHASES},
        **{status: {"status": status} for status in statuses},
        "account": {"account__id__exact": account},
        "symbol": {"symbol": "BTCUSDT"},
        "seldom symbol": {"symbol": "ALT190USDT"},
        "no such symbol": {"symbol": "NOPEUSDT"},
        "strategy": {"strategy": "strategy-3"},
        "seldom strategy": {"strategy": "seldom"},
        "no such strategy": {"strategy": "nope"},
        "side": {"side__exact": "SELL"},
        "type": {"type": "MARKET"},
        "no such type": {"type": "STOP_LOSS"},
        "external": {"origin": "external"},
        "recovered": {"origin": "recovered"},
        "by hand": {"origin": "by_hand"},
        "time": {"created_at_from_0": date, "created_at_to_0": date},
        "several": {"account__id__exact": account, "symbol": "ALT190USDT", "strategy": "seldom"},
        "deep page": {"p": "50"},
        "intent": {"q": "intent-1234"},
        "number": {"q": "10000001234"},
        "beginning of a number": {"q": "1000000"},
        "trade": {"q": "20000004937"},
        "twenty words": {"q": " ".join(f"1000000{number:04}" for number in range(20))},
        "nothing": {"q": "zzz"},
    }
