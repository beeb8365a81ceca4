"""Rows that are read once for each event: the statement made once a process, not by the ORM for each row.

The ORM takes longer to compile such a query than the database to answer it.
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
    """The attempt that was sent under this id, with its order."""
    return _attempt("e.account_id = %s AND e.client_order_id = %s", (account_id, client_order_id))


def attempt_by_exchange_id(account_id: int, symbol: str, exchange_order_id: str) -> ExchangeOrder | None:
    """The attempt that the exchange gave this number, with its order."""
    if not exchange_order_id:
        return None
    where = "e.account_id = %s AND e.symbol = %s AND e.exchange_order_id = %s AND NOT (e.exchange_order_id = '')"
    return _attempt(where, (account_id, symbol, exchange_order_id))


def fills_of(order_id: UUID) -> list[Fill]:
    """The order's fills as they were stored, oldest first."""
    key = Order._meta.pk.get_db_prep_value(order_id, connection)  # noqa: SLF001
    rows = _rows((("f", Fill),), "FROM orders_fill f WHERE f.order_id = %s ORDER BY f.id", (key,))
    return [fill for (fill,) in rows]


def _attempt(where: str, parameters: Sequence[Any]) -> ExchangeOrder | None:
    source = f"FROM orders_exchangeorder e JOIN orders_order o ON o.id = e.order_id WHERE {where} LIMIT 1"
    for attempt, order in _rows((("e", ExchangeOrder), ("o", Order)), source, parameters):
        attempt.order = order
        return attempt  # type: ignore[no-any-return]
    return None


_Wanted = tuple[tuple[str, type[models.Model]], ...]  # alias and model


def _rows(wanted: _Wanted, source: str, parameters: Sequence[Any]) -> list[list[Any]]:
    """For each row of the answer one instance of each model."""
    columns, converters = _columns(wanted, connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} {source}", parameters)  # nosec B608  our own constants
        found = cursor.fetchall()
    return [_instances(wanted, list(row), converters) for row in found]


def _instances(wanted: _Wanted, values: list[Any], converters: _Converters) -> list[Any]:
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
def _columns(wanted: _Wanted, vendor: str) -> tuple[str, _Converters]:
    """The columns' names for a SELECT, and what turns the database's values into the fields'."""
    expressions = [field.get_col(alias) for alias, model in wanted for field in model._meta.concrete_fields]  # noqa: SLF001
    text = ", ".join(f'{col.alias}."{col.target.column}"' for col in expressions)
    converters = tuple(
        (position, convert, col)
        for position, col in enumerate(expressions)
        for convert in connection.ops.get_db_converters(col) + col.get_db_converters(connection)
    )
    return text, converters
