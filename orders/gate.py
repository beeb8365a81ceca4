"""What the gate and the claim need to know, read by one statement in the transaction that claims the send.

The halt row and the account row are read under a share lock (on PostgreSQL; SQLite's write lock does it there), so
that a halt that has committed is seen by every later claim. Django's ORM has no `FOR SHARE`, hence the SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID

from django.db import connection

from exchanges import rows
from exchanges.models import TradingHalt, instrument_rules
from exchanges.types import InstrumentRules, Side
from orders.risk import AccountStanding
from orders.risk_limits import LastTrade, Limits

_STATEMENT = """
SELECT h.is_halted, h.reason,
       a.id, a.exchange, a.environment, a.is_enabled, a.trading_state, a.trading_state_reason,
       a.last_synced_at, a.balances_synced_at,
       i.id, i.updated_at, b.free, b.reserved, c.caught_up_at,
       p.price, p.traded_at, p.asked_at, {limits},
       (SELECT o.id FROM orders_order o WHERE o.account_id = a.id AND o.intent_id = %s),
       (SELECT o.id FROM orders_order o WHERE o.account_id = a.id AND o.intent_id =
          CASE a.environment WHEN 'live' THEN %s WHEN 'testnet' THEN %s ELSE %s END),
       EXISTS (SELECT 1 FROM orders_exchangeorder e WHERE e.account_id = a.id AND e.client_order_id = %s)
  FROM exchanges_tradinghalt h
  CROSS JOIN exchanges_exchangeaccount a
  LEFT JOIN exchanges_instrument i ON i.exchange = a.exchange AND i.environment = a.environment AND i.symbol = %s
  LEFT JOIN exchanges_balance b ON b.account_id = a.id AND b.asset = {asset_column}
  LEFT JOIN exchanges_symbolcatchup c ON c.account_id = a.id AND c.symbol = %s
  LEFT JOIN exchanges_lastprice p ON p.exchange = a.exchange AND p.environment = a.environment AND p.symbol = %s
 WHERE h.id = 1 AND a.name = %s
"""
_ASSET_COLUMN = {Side.BUY: "i.quote_asset", Side.SELL: "i.base_asset"}

# The rows of limits that apply, as one JSON text; figures as text, so that none passes through a float.
_LIMIT_FIELDS = tuple(field.name for field in fields(Limits))
_LIMIT_COLUMNS = ", ".join(f"CAST(r.{name} AS text)" for name in _LIMIT_FIELDS)
_LIMITS = """(SELECT {aggregate}({array}({columns})) FROM orders_risklimit r
         WHERE r.account_id = a.id AND r.symbol IN ('', %s) AND r.strategy IN ('', %s))"""
_JSON = {
    "sqlite": {"aggregate": "json_group_array", "array": "json_array"},
    "postgresql": {"aggregate": "json_agg", "array": "json_build_array"},
}


@lru_cache
def _statement(side: Side, vendor: str) -> str:
    limits = _LIMITS.format(columns=_LIMIT_COLUMNS, **_JSON[vendor])
    text = _STATEMENT.format(asset_column=_ASSET_COLUMN[side], limits=limits)
    if vendor == "sqlite":
        return text
    numbers = count(1)
    return re.sub("%s", lambda _: f"${next(numbers)}", text) + " FOR SHARE OF h, a"


@dataclass(frozen=True, slots=True)
class GateFacts:
    """One consistent reading. `free` and `reserved` are of the asset that would be spent."""

    account_id: int
    exchange: str
    environment: str
    standing: AccountStanding
    last_synced_at: datetime | None
    balances_synced_at: datetime | None
    rules: InstrumentRules | None
    free: Decimal
    reserved: Decimal
    caught_up_at: datetime | None
    last_trade: LastTrade | None
    limits: tuple[Limits, ...]
    order_id: UUID | None
    recovered_order_id: UUID | None
    remembered_order_is_gone: bool


def read_facts(
    *,
    account: str,
    symbol: str,
    side: Side,
    strategy: str,
    intent_id: str,
    recovered_intent_ids: Sequence[str],
    remembered_client_order_id: str,
) -> GateFacts | None:
    """Read under the share lock; None if there is no such account. Must run inside a transaction.

    `recovered_intent_ids`: what the intent's order would be called if it had been recovered, for `live`, `testnet` and
    `simulator`, in this order (which of them it is, only the account's row says).
    """
    own = (symbol, strategy, intent_id, *recovered_intent_ids, remembered_client_order_id)
    statement, parameters = _statement(side, connection.vendor), (*own, symbol, symbol, symbol, account)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            row = cursor.fetchone()
    else:
        row = rows.execute(statement, parameters)
    return None if row is None else _facts(row, has_memory=bool(remembered_client_order_id))


def ensure_halt_row() -> None:
    """The gate joins the halt row: make it, where a restore or a flush has lost it."""
    TradingHalt.objects.get_or_create(id=TradingHalt.ROW)


def _facts(row: tuple[Any, ...], *, has_memory: bool) -> GateFacts:
    instrument_id, instrument_updated_at = row[10], _moment(row[11])
    rules = None
    if instrument_id is not None and instrument_updated_at is not None:
        rules = instrument_rules(instrument_id, instrument_updated_at)
    return GateFacts(
        account_id=row[2],
        exchange=row[3],
        environment=row[4],
        standing=AccountStanding(
            is_enabled=bool(row[5]),
            trading_state=row[6],
            trading_state_reason=row[7],
            everything_halted=bool(row[0]),
            halt_reason=row[1],
        ),
        last_synced_at=_moment(row[8]),
        balances_synced_at=_moment(row[9]),
        rules=rules,
        free=Decimal(0 if row[12] is None else row[12]),
        reserved=Decimal(0 if row[13] is None else row[13]),
        caught_up_at=_moment(row[14]),
        last_trade=_last_trade(row[15:18]),
        limits=_limits(row[18]),
        order_id=_uuid(row[19]),
        recovered_order_id=_uuid(row[20]),
        remembered_order_is_gone=has_memory and not row[21],
    )


def _last_trade(columns: Sequence[Any]) -> LastTrade | None:
    price, traded_at, asked_at = columns[0], _moment(columns[1]), _moment(columns[2])
    if price is None or traded_at is None or asked_at is None:
        return None
    return LastTrade(Decimal(price), traded_at, asked_at)


_WHOLE = frozenset(
    {
        "id",
        "max_open_orders",
        "max_orders_per_second",
        "max_orders_per_day",
        "max_price_age",
        "max_identical_orders",
        "identical_window",
    }
)
_TEXT = frozenset({"symbol", "strategy", "currency", "allowed_symbols"})


def _limits(found: str | list[list[str | None]] | None) -> tuple[Limits, ...]:
    """psycopg has read the JSON already; SQLite gives text."""
    rows = json.loads(found) if isinstance(found, str) else found or []
    return tuple(
        Limits(**{name: _limit(name, text) for name, text in zip(_LIMIT_FIELDS, row, strict=True)}) for row in rows
    )


def _limit(name: str, text: str | None) -> Any:
    if text is None or name in _TEXT:
        return text
    return int(text) if name in _WHOLE else Decimal(text)


def _moment(value: datetime | str | None) -> datetime | None:
    """SQLite hands raw statements text without a zone; it is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def _uuid(value: UUID | str | None) -> UUID | None:
    return UUID(value) if isinstance(value, str) else value
