"""Read the facts for the gate with one statement, in the transaction that claims the send.

The statement takes a share lock on the halt row and the account row, so every claim sees a halt
that committed before it. Django's ORM has no `FOR SHARE`, hence the SQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID

from exchanges import clock
from exchanges.db import prepared
from exchanges.duties import HALT_RULES, SWEEP
from exchanges.instrument_rules import InstrumentRules
from exchanges.known_prices import KnownPrice, PriceSource, mid_of
from exchanges.models import TradingHalt, instrument_rules
from exchanges.types import Side
from orders.gate.checks import TradingPermission
from orders.gate.limits import LastTrade, Limits, in_force
from orders.gate.review import ReviewThreshold
from orders.ids import hash_for
from orders.intents import Intent, invalid
from orders.models import RECOVERED_PREFIX

ZERO = Decimal(0)

# The limit rows that apply, as one JSON text. Values are text, so none passes through a float.
_LIMIT_FIELDS = tuple(field.name for field in fields(Limits))
_LIMIT_COLUMNS = ", ".join(f"CAST(r.{name} AS text)" for name in _LIMIT_FIELDS)
_LIMITS = (
    f"SELECT json_agg(json_build_array({_LIMIT_COLUMNS}))"  # noqa: S608  # nosec B608
    " FROM orders_risklimit r"
    " WHERE r.account_id = a.id AND r.symbol IN ('', %s) AND r.strategy IN ('', %s)"
)

# Seconds since the duty last ran for the account. A new account waits for the first run.
_DUTY_AGE = """CAST(extract(epoch FROM clock_timestamp() - COALESCE((
        SELECT d.ran_at FROM exchanges_dutyrun d
         WHERE d.account_id = a.id AND d.duty = '{duty}'), a.created_at)) AS double precision)"""

# The widest halt of the order's symbol or strategy.
_SCOPED_HALT = """
    SELECT json_build_array(x.symbol, x.strategy, x.halted_by, x.halted_at, x.reason)
      FROM exchanges_scopedhalt x
     WHERE (x.account_id IS NULL OR x.account_id = a.id)
       AND x.symbol IN ('', %s) AND x.strategy IN ('', %s)
     ORDER BY x.symbol, x.strategy LIMIT 1
"""

# Name of each column that is read, and its expression. The `%s` are in the order of the parameters.
_COLUMNS = {
    "everything_halted": "h.is_halted",
    "halt_reason": "h.reason",
    "account_id": "a.id",
    "exchange": "a.exchange",
    "environment": "a.environment",
    "epoch": "a.epoch",
    "is_enabled": "a.is_enabled",
    "trading_state": "a.trading_state",
    "trading_state_reason": "a.trading_state_reason",
    "last_synced_at": "s.last_synced_at",
    "balances_synced_at": "s.balances_synced_at",
    "instrument_id": "i.id",
    "instrument_updated_at": "i.updated_at",
    # Read only where a check asks. The rule is that of `exchanges.mirror.money`.
    "quote_is_money": """CASE WHEN a.environment = 'live' OR a.trading_state = 'REDUCING' THEN
        EXISTS (SELECT FROM exchanges_instrument m
                 WHERE m.exchange = a.exchange AND m.environment = a.environment
                   AND m.base_asset = 'BTC' AND m.quote_asset = i.quote_asset)
        OR i.quote_asset <> 'BTC' AND NOT EXISTS (
                SELECT FROM exchanges_instrument m
                 WHERE m.exchange = a.exchange AND m.environment = a.environment
                   AND m.base_asset = i.quote_asset) END""",
    "free": "b.free",
    "reserved": "b.reserved",
    "caught_up_at": "c.caught_up_at",
    "last_price": "p.price",
    "last_traded_at": "p.traded_at",
    "last_price_asked_at": "p.asked_at",
    "bid": "m.bid",
    "ask": "m.ask",
    "mid_asked_at": "m.asked_at",
    "limits": f"({_LIMITS})",
    "scoped_halt": f"({_SCOPED_HALT})",
    "order_id": """(
        SELECT o.id FROM orders_order o WHERE o.account_id = a.id AND o.intent_id = %s)""",
    "recovered_order_id": """(
        SELECT o.id FROM orders_order o WHERE o.account_id = a.id AND o.intent_id = %s)""",
    "book_token": "k.token",  # nosec B105: the column that names the state of the book
    "distrusted_at": "k.distrusted_at",
    # One look-up by the unique index for each. NOT EXISTS may become a join that reads every row.
    "missing_claims": """(
        SELECT count(*) FROM unnest(CAST(%s AS text[])) noted
         WHERE (
           SELECT e.id FROM orders_exchangeorder e
            WHERE e.account_id = CAST(split_part(noted, '/', 1) AS bigint)
              AND e.client_order_id = split_part(noted, '/', 2)) IS NULL)""",
    "halt_rules_age": _DUTY_AGE.format(duty=HALT_RULES),
    "sweep_age": _DUTY_AGE.format(duty=SWEEP),
    "is_canceled_early": """EXISTS (
        SELECT 1 FROM orders_earlycancel e
         WHERE e.account_id = a.id AND e.intent_id = %s)""",
    "review_rules": """(
        SELECT json_agg(json_build_array(v.id, CAST(v.notional_above AS text)) ORDER BY v.id)
          FROM orders_reviewrule v
         WHERE v.kind = 'order' AND COALESCE(v.account_id, a.id) = a.id
           AND v.symbol IN ('', %s) AND v.strategy IN ('', %s))""",
}
_SELECT = ", ".join(f"{expression} AS {name}" for name, expression in _COLUMNS.items())
_STATEMENT = """
SELECT {columns}
  FROM exchanges_tradinghalt h
  CROSS JOIN exchanges_exchangeaccount a
  LEFT JOIN exchanges_accountsync s ON s.account_id = a.id
  LEFT JOIN exchanges_instrument i
    ON i.exchange = a.exchange AND i.environment = a.environment AND i.symbol = %s
  LEFT JOIN exchanges_balance b ON b.account_id = a.id AND b.asset = {asset_column}
  LEFT JOIN exchanges_symbolcatchup c ON c.account_id = a.id AND c.symbol = %s
  LEFT JOIN orders_bookidentity k ON k.id = 1
  LEFT JOIN exchanges_lastprice p
    ON p.exchange = a.exchange AND p.environment = a.environment AND p.symbol = %s
  LEFT JOIN exchanges_midprice m
    ON m.exchange = a.exchange AND m.environment = a.environment AND m.symbol = %s
 WHERE h.id = 1 AND a.name = %s
   FOR SHARE OF h, a
"""
_ASSET_COLUMN = {Side.BUY: "i.quote_asset", Side.SELL: "i.base_asset"}


@lru_cache
def _statement(side: Side) -> str:
    text = _STATEMENT.format(columns=_SELECT, asset_column=_ASSET_COLUMN[side])
    numbers = count(1)
    return re.sub("%s", lambda _: f"${next(numbers)}", text)


@dataclass(frozen=True, slots=True)
class GateSnapshot:
    """The facts of one consistent read. `free` and `reserved` are of the asset to be spent."""

    account_id: int
    exchange: str
    environment: str
    epoch: int
    permission: TradingPermission
    last_synced_at: datetime | None
    balances_synced_at: datetime | None
    rules: InstrumentRules | None
    rules_changed_at: datetime | None
    quote_is_money: bool
    free: Decimal
    reserved: Decimal
    caught_up_at: datetime | None
    last_trade: LastTrade | None
    mid: KnownPrice | None
    limits: tuple[Limits, ...]
    order_id: UUID | None
    recovered_order_id: UUID | None
    book_token: str
    distrusted_at: datetime | None
    missing_claims: int
    duty_ages: Mapping[str, float]  # seconds since the last run
    is_canceled_early: bool
    review_rules: tuple[ReviewThreshold, ...]


def facts_for(intent: Intent, environment: str, noted_claims: Sequence[str] = ()) -> GateSnapshot:
    """Read the facts for an intent. Raises `InvalidIntent` for an unknown account.

    `environment` is the account's, as the caller knows it. If the row has another, the facts say
    so, and `recovered_order_id` means nothing. `noted_claims` are the names of the claims that are
    remembered outside the database.
    """
    for _ in range(2):
        (facts,) = facts_for_all([(intent, environment, noted_claims)])
        if facts is not None:
            return facts
        ensure_halt_row()
    raise invalid("account", f"there is no account named {intent.account!r}")


def facts_for_all(
    wanted: Sequence[tuple[Intent, str, Sequence[str]]], *, first: Sequence[prepared.Statement] = ()
) -> list[GateSnapshot | None]:
    """Read the facts for several intents as one message, under the share lock.

    Each intent comes with its account's environment and the noted claims. None stands for an
    unknown account, and for all of them if the halt row is lost. `first` goes ahead of them in the
    same message.
    """
    rows = prepared.execute_all([*first, *(_statement_for(*each) for each in wanted)])[len(first) :]
    return [None if row is None else _snapshot(row) for row in rows]


def _statement_for(
    intent: Intent, environment: str, noted_claims: Sequence[str]
) -> prepared.Statement:
    name = hash_for(environment=environment, account=intent.account, intent_id=intent.intent_id)
    # One value, so that PostgreSQL finds the row by both columns of its index, even before the
    # first ANALYZE: a choice by the account's environment made it read every order of the account.
    recovered_as = RECOVERED_PREFIX + name
    # An array as text. The names are digits, lower-case letters, `/` and `-`: nothing to escape.
    noted = f"{{{','.join(noted_claims)}}}"
    symbol, intent_id = intent.symbol, intent.intent_id
    strategy = intent.strategy
    own = (symbol, strategy, symbol, strategy, intent_id, recovered_as, noted, intent_id)
    rules = (symbol, strategy)
    parameters = (*own, *rules, *[symbol] * 4, intent.account)
    return _statement(intent.amounts.side), parameters


def ensure_halt_row() -> None:
    """Create the halt row, which the gate joins, if a restore or a flush has lost it."""
    TradingHalt.objects.get_or_create(id=TradingHalt.ROW)


def _snapshot(values: Sequence[Any]) -> GateSnapshot:
    row = dict(zip(_COLUMNS, values, strict=True))
    rules = None
    if row["instrument_id"] is not None and row["instrument_updated_at"] is not None:
        rules = instrument_rules(row["instrument_id"], row["instrument_updated_at"])
    return GateSnapshot(
        account_id=row["account_id"],
        exchange=row["exchange"],
        environment=row["environment"],
        epoch=row["epoch"],
        permission=TradingPermission(
            is_enabled=row["is_enabled"],
            trading_state=row["trading_state"],
            trading_state_reason=row["trading_state_reason"],
            everything_halted=row["everything_halted"],
            halt_reason=row["halt_reason"],
            scoped_halt=_scoped_halt(row["scoped_halt"]),
        ),
        last_synced_at=row["last_synced_at"],
        balances_synced_at=row["balances_synced_at"],
        rules=rules,
        rules_changed_at=row["instrument_updated_at"],
        quote_is_money=bool(row["quote_is_money"]),
        free=ZERO if row["free"] is None else row["free"],
        reserved=ZERO if row["reserved"] is None else row["reserved"],
        caught_up_at=row["caught_up_at"],
        last_trade=_last_trade(row),
        mid=_mid(row),
        limits=_limits(row["limits"]),
        order_id=row["order_id"],
        recovered_order_id=row["recovered_order_id"],
        book_token=str(row["book_token"] or ""),
        distrusted_at=row["distrusted_at"],
        missing_claims=row["missing_claims"],
        duty_ages={"halt rules": row["halt_rules_age"], "sweep": row["sweep_age"]},
        is_canceled_early=row["is_canceled_early"],
        review_rules=tuple(
            ReviewThreshold(rule_id, None if above is None else Decimal(above))
            for rule_id, above in row["review_rules"] or ()
        ),
    )


def _scoped_halt(found: list[str] | None) -> str:
    """Return the halt's name, actor, time and reason as text. Empty if there is none."""
    if found is None:
        return ""
    symbol, strategy, who, at, reason = found
    scope = " on ".join(filter(None, [strategy and f"the strategy {strategy}", symbol]))
    since = f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{scope} is halted by {who} since {since}: {reason}"


def _last_trade(row: Mapping[str, Any]) -> LastTrade | None:
    price, traded_at = row["last_price"], row["last_traded_at"]
    asked_at = row["last_price_asked_at"]
    if price is None or traded_at is None or asked_at is None:
        return None
    return LastTrade(price, traded_at, asked_at)


def _mid(row: Mapping[str, Any]) -> KnownPrice | None:
    if row["mid_asked_at"] is None:
        return None
    return KnownPrice(mid_of(row["bid"], row["ask"]), row["mid_asked_at"], PriceSource.MID)


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


def _limits(found: list[list[str | None]] | None) -> tuple[Limits, ...]:
    """Build the limits in force from their JSON. None means that no row applies."""
    rows = [
        Limits(**{name: _limit(name, text) for name, text in zip(_LIMIT_FIELDS, row, strict=True)})
        for row in found or ()
    ]
    return tuple(in_force(rows, clock.now()) if rows else ())


def _limit(name: str, text: str | None) -> Any:
    if text is None or name in _TEXT:
        return text
    if name == "until":
        return datetime.fromisoformat(text)
    return int(text) if name in _WHOLE else Decimal(text)
