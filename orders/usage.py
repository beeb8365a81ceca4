"""What was sent before under the rows of limits: one message to the database, which locks the rows first.

One claim at a time counts under a row, so that parallel claims count right. The built-in limits of a live account have
no row: there it is a lock of the transaction's own, named by the account. SQLite's write lock does it all.

What is counted over a day is read from the day's orders: 43 000 of them cost 15 ms, and the sum of their worth 28 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from exchanges.fields import ExactDecimalField
from exchanges.types import EXACT, InstrumentRules
from orders.day_results import loss_today
from orders.intents import Intent
from orders.risk_limits import Limits, Usage
from orders.states import CLOSED

ZERO = Decimal(0)
_LOCK_NAMESPACE = 0x71696D  # of the advisory locks: any number that nobody else takes
_FIGURE = ExactDecimalField()  # of every figure of an order
_Part = tuple[str, list[Any]]  # an expression, and its parameters
_NOTHING: _Part = ("0", [])

# Orders that may still trade, in two parts: each has an index of just those.
_STATES = ("o.status IN ('NEW', 'PARTIALLY_FILLED')", "o.status = 'PENDING_NEW'")
_IS_CLOSED = "o.status IN ({})".format(", ".join(f"'{status}'" for status in sorted(CLOSED)))
_WORTH = f"CASE WHEN {_IS_CLOSED} THEN 0 ELSE COALESCE(o.quote_quantity, o.price * o.quantity, 0) END"  # nosec B608
# SQLite keeps figures as text and cannot add them up: there the figures themselves are read.
_NOTIONAL = {
    "postgresql": f"SUM(GREATEST(o.filled_quote_quantity, {_WORTH}))",  # nosec B608
    "sqlite": f"""json_group_array(json_array({_IS_CLOSED}, o.filled_quote_quantity, o.quote_quantity, o.price,
                                              o.quantity))""",
}
_HELD = {"postgresql": "free + locked", "sqlite": "json_group_array(json_array(free, locked))"}
_OPEN_BUYS = {
    "postgresql": "SUM(GREATEST(0, COALESCE(o.quantity, 0) - o.filled_quantity))",
    "sqlite": "json_group_array(json_array(o.quantity, o.filled_quantity))",
}


def read_usage(
    limits: Sequence[Limits], account_id: int, intent: Intent, rules: InstrumentRules, now: datetime
) -> list[Usage]:
    """For each row what it limits, nothing else. Call it in the claim's transaction, after the account was locked."""
    parts = [part for row in limits for part in _parts(row, account_id, intent, rules, now)]
    sql = f"SELECT {', '.join(text for text, _ in parts)}"  # nosec B608  of the texts in this module
    found = _locked_reading(limits, account_id, sql, [value for _, values in parts for value in values])
    width = len(parts) // len(limits)
    return [_usage(row, found[at * width : (at + 1) * width], account_id, now) for at, row in enumerate(limits)]


def _locked_reading(limits: Sequence[Limits], account_id: int, sql: str, parameters: list[Any]) -> tuple[Any, ...]:
    """The row that `sql` gives, with a snapshot that was taken when the locks were held: a statement each."""
    statements: list[_Part] = []
    if connection.vendor != "sqlite":
        if any(row.id is None for row in limits):
            statements.append(("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_NAMESPACE, account_id % 2**31]))
        if ids := [row.id for row in limits if row.id is not None]:
            marks = ", ".join(["%s"] * len(ids))
            lock = f"SELECT id FROM orders_risklimit WHERE id IN ({marks}) ORDER BY id FOR UPDATE"  # noqa: S608  # nosec B608
            statements.append((lock, list(ids)))
    statements.append((sql, parameters))
    with connection.cursor() as cursor:
        cursor.execute("; ".join(text for text, _ in statements), [value for _, row in statements for value in row])
        for _ in statements[1:]:
            cursor.nextset()
        row: tuple[Any, ...] = cursor.fetchone()
        return row


# -- what is read --------------------------------------------------------------------------------------------------


def _parts(row: Limits, account_id: int, intent: Intent, rules: InstrumentRules, now: datetime) -> list[_Part]:
    """In the order of `_usage`."""
    scope, values = _scope(row, account_id, intent)
    midnight = _moment(now.replace(hour=0, minute=0, second=0, microsecond=0))
    today = f"{scope} AND o.created_at >= %s AND o.attempt > 0 AND NOT o.is_external"
    in_quote = f"{today} AND o.symbol LIKE %s"
    return [
        _NOTHING if row.max_open_orders is None else _open_orders(scope, values),
        _NOTHING if row.max_orders_per_second is None else _sent_this_second(row, account_id, now),
        _NOTHING if row.max_orders_per_day is None else _of_orders("COUNT(*)", today, [*values, midnight]),
        _NOTHING
        if row.max_notional_per_day is None
        else _of_orders(_NOTIONAL[connection.vendor], in_quote, [*values, midnight, f"%{rules.quote_asset}"]),
        _NOTHING if row.max_position is None else _held(account_id, rules),
        *([_NOTHING] * 2 if row.max_position is None else _open_buys(account_id, rules)),
        _NOTHING if row.max_identical_orders is None else _identical(scope, values, row, intent, now),
    ]


def _scope(row: Limits, account_id: int, intent: Intent) -> _Part:
    """The other orders that a row is about."""
    text = "o.account_id = %s AND o.intent_id <> %s"
    values: list[Any] = [account_id, intent.intent_id]
    for name in ("symbol", "strategy"):
        if value := getattr(row, name):
            text += f" AND o.{name} = %s"
            values.append(value)
    return text, values


def _of_orders(what: str, where: str, values: list[Any]) -> _Part:
    return f"(SELECT {what} FROM orders_order o WHERE {where})", values  # noqa: S608  # nosec B608  as above


def _open_orders(scope: str, values: list[Any]) -> _Part:
    parts = [_of_orders("COUNT(*)", f"{scope} AND {state}", values) for state in _STATES]
    return " + ".join(text for text, _ in parts), [value for _, given in parts for value in given]


def _sent_this_second(row: Limits, account_id: int, now: datetime) -> _Part:
    """At most as many as are allowed are looked at, the newest first: by the primary key, which needs no index more."""
    where = "e.account_id = %s AND e.request_timestamp_ms IS NOT NULL"
    values: list[Any] = [account_id]
    join = "JOIN orders_order o ON o.id = e.order_id" if row.strategy else ""
    for column, value in (("e.symbol", row.symbol), ("o.strategy", row.strategy)):
        if value:
            where += f" AND {column} = %s"
            values.append(value)
    newest = f"SELECT e.sent_at FROM orders_exchangeorder e {join} WHERE {where} ORDER BY e.id DESC LIMIT %s"  # noqa: S608  # nosec B608
    text = f"(SELECT COUNT(*) FROM ({newest}) n WHERE n.sent_at > %s)"  # noqa: S608  # nosec B608  as above
    return text, [*values, row.max_orders_per_second, _moment(now - timedelta(seconds=1))]


def _held(account_id: int, rules: InstrumentRules) -> _Part:
    text = f"(SELECT {_HELD[connection.vendor]} FROM exchanges_balance WHERE account_id = %s AND asset = %s)"  # noqa: S608  # nosec B608
    return text, [account_id, rules.base_asset]


def _open_buys(account_id: int, rules: InstrumentRules) -> list[_Part]:
    """On every symbol of the asset."""
    symbols = """SELECT i.symbol FROM exchanges_instrument i
      JOIN exchanges_exchangeaccount a ON a.exchange = i.exchange AND a.environment = i.environment
     WHERE a.id = %s AND i.base_asset = %s"""
    where = f"o.account_id = %s AND o.symbol IN ({symbols}) AND o.side = 'BUY'"
    values = [account_id, account_id, rules.base_asset]
    return [_of_orders(_OPEN_BUYS[connection.vendor], f"{where} AND {state}", values) for state in _STATES]


def _identical(scope: str, values: list[Any], row: Limits, intent: Intent, now: datetime) -> _Part:
    """Equal to the last digit, and sent within the window."""
    since = _moment(now - timedelta(seconds=row.identical_window))
    text = f"{scope} AND o.created_at > %s AND o.attempt > 0 AND o.side = %s AND o.order_type = %s AND o.symbol = %s"
    given = [*values, since, str(intent.side), str(intent.order_type), intent.symbol]
    for name in ("quantity", "quote_quantity", "price", "stop_price"):
        figure = getattr(intent, name)
        text += f" AND o.{name} IS NULL" if figure is None else f" AND o.{name} = %s"
        given += [] if figure is None else [_FIGURE.get_db_prep_value(figure, connection)]
    return _of_orders("COUNT(*)", text, given)


def _moment(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


# -- what it says --------------------------------------------------------------------------------------------------


def _usage(row: Limits, found: Sequence[Any], account_id: int, now: datetime) -> Usage:
    open_orders, this_second, today, notional, held, working_buys, sent_buys, identical = found
    position = _figure(held, EXACT.add)
    for buys in (working_buys, sent_buys):
        position = EXACT.add(position, _figure(buys, _left))
    usage = Usage(
        open_orders=open_orders,
        orders_this_second=this_second,
        orders_today=today,
        notional_today=_figure(notional, _worth),
        position=position,
        identical_orders=identical,
    )
    if row.max_daily_loss is None:
        return usage
    return replace(usage, loss_today=loss_today(account_id, row.currency, row.symbol, now))


def _figure(found: Decimal | int | str | None, formula: Callable[..., Decimal]) -> Decimal:
    """A sum; of SQLite the JSON of the rows that `formula` is to be added up for, exactly."""
    if not isinstance(found, str):
        return Decimal(found or 0)
    total = ZERO
    for row in json.loads(found):
        figures = [None if figure is None else Decimal(figure) for figure in row]
        total = EXACT.add(total, formula(*figures))
    return total


def _left(quantity: Decimal | None, filled: Decimal) -> Decimal:
    return max(ZERO, EXACT.subtract(quantity or ZERO, filled))


def _worth(
    is_closed: Decimal, filled: Decimal, quote_quantity: Decimal | None, price: Decimal | None, quantity: Decimal | None
) -> Decimal:
    """As filled where it is over, else as ordered."""
    if is_closed:
        return filled
    asked = quote_quantity
    if asked is None and price is not None and quantity is not None:
        asked = EXACT.multiply(price, quantity)
    return max(filled, asked or ZERO)
