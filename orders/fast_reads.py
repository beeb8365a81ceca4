"""Read the rows that each event of the stream needs, with statements built once a process.

The ORM takes longer to compile such a query than the database takes to answer it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connection, models

from orders.models import ExchangeOrder, Fill, Order

_Converters = tuple[tuple[int, Any, Any], ...]


def attempt_by_client_id(account_id: int, client_order_id: str) -> ExchangeOrder | None:
    """Return the attempt that was sent with this id, with its order."""
    where = "e.account_id = %s AND e.client_order_id = %s"
    return next(iter(_attempts(where, (account_id, client_order_id))), None)


def attempts_by_client_ids(account_id: int, client_order_ids: Sequence[str]) -> list[ExchangeOrder]:
    """Return the attempts that were sent with one of these ids, with their orders."""
    where = "e.account_id = %s AND e.client_order_id = ANY(%s)"
    return _attempts(where, (account_id, list(client_order_ids)))


def taken_numbers(
    account_id: int, symbols: Sequence[str], exchange_order_ids: Sequence[str]
) -> set[tuple[str, str]]:
    """Return symbol and id of the exchange of the attempts that have one of these."""
    sql = (
        "SELECT symbol, exchange_order_id FROM orders_exchangeorder WHERE account_id = %s"
        " AND symbol = ANY(%s) AND exchange_order_id = ANY(%s) AND NOT (exchange_order_id = '')"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, (account_id, list(symbols), list(exchange_order_ids)))
        return set(cursor.fetchall())


def known_trades(
    account_id: int, client_order_ids: Sequence[str], trade_ids: Sequence[str]
) -> list[tuple[str, str]]:
    """Return client order id and trade id of these attempts' stored fills with these trade ids."""
    sql = (
        "SELECT e.client_order_id, f.trade_id FROM orders_exchangeorder e"
        " JOIN orders_fill f ON f.exchange_order_id = e.id"
        " WHERE e.account_id = %s AND e.client_order_id = ANY(%s) AND f.trade_id = ANY(%s)"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, (account_id, list(client_order_ids), list(trade_ids)))
        return cursor.fetchall()  # type: ignore[no-any-return]


def attempts_by_exchange_id(
    account_id: int, symbol: str, exchange_order_id: str
) -> list[ExchangeOrder]:
    """Return the attempts with this id of the exchange, with their orders, newest epoch first."""
    if not exchange_order_id:
        return []
    where = (
        "e.account_id = %s AND e.symbol = %s AND e.exchange_order_id = %s"
        " AND NOT (e.exchange_order_id = '')"  # Lets PostgreSQL use the partial index.
        " ORDER BY e.epoch DESC"
    )
    return _attempts(where, (account_id, symbol, exchange_order_id))


def fills_of(order_ids: Sequence[UUID]) -> list[Fill]:
    """Return the fills of these orders in the order in which they were stored."""
    source = "FROM orders_fill f WHERE f.order_id = ANY(%s) ORDER BY f.id"
    rows = _rows((("f", Fill),), source, (list(order_ids),))
    return [fill for (fill,) in rows]


def _attempts(where: str, parameters: Sequence[Any]) -> list[ExchangeOrder]:
    tables = "orders_exchangeorder e JOIN orders_order o ON o.id = e.order_id"
    found = _rows((("e", ExchangeOrder), ("o", Order)), f"FROM {tables} WHERE {where}", parameters)
    for attempt, order in found:
        attempt.order = order
    return [attempt for attempt, _ in found]


_Models = tuple[tuple[str, type[models.Model]], ...]  # alias and model


def _rows(wanted: _Models, source: str, parameters: Sequence[Any]) -> list[list[Any]]:
    """Return one instance of each model for each row."""
    columns, converters = _columns(wanted)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} {source}", parameters)  # nosec B608  constants of ours
        found = cursor.fetchall()
    return [_instances(wanted, list(row), converters) for row in found]


def _instances(wanted: _Models, values: list[Any], converters: _Converters) -> list[Any]:
    for position, convert, expression in converters:
        values[position] = convert(values[position], expression, connection)
    made, start = [], 0
    for _, model in wanted:
        names = _names(model)
        made.append(model.from_db(connection.alias, names, values[start : start + len(names)]))
        start += len(names)
    return made


@lru_cache(maxsize=8)
def _names(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]  # noqa: SLF001


@lru_cache(maxsize=16)
def _columns(wanted: _Models) -> tuple[str, _Converters]:
    """Return the columns of a SELECT, and the converters from database values to fields."""
    expressions = [
        field.get_col(alias)
        for alias, model in wanted
        for field in model._meta.concrete_fields  # noqa: SLF001
    ]
    text = ", ".join(f'{col.alias}."{col.target.column}"' for col in expressions)
    converters = tuple(
        (position, convert, col)
        for position, col in enumerate(expressions)
        for convert in connection.ops.get_db_converters(col) + col.get_db_converters(connection)
    )
    return text, converters
