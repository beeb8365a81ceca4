"""The placing path's writes: statements made once, and on PostgreSQL sent together.

The ORM compiles a statement anew for each row, and each one is a round trip: together they cost an order more than the
call to the exchange. Here a statement's text is made once a process, values pass through the model's own fields, and a
batch is one message to the server (SQLite, which has no server, runs it one by one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import connection, models


@dataclass(frozen=True, slots=True)
class Statement:
    """`returning`: the row whose key the database makes; `run` sets it."""

    sql: str
    parameters: tuple[Any, ...]
    returning: models.Model | None = None


def insert(rows: Sequence[models.Model]) -> Statement:
    """New rows of one model. A single row gets the key that the database made."""
    model = type(rows[0])
    sql, values = _insert_text(model)
    parameters = tuple(
        field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in _fields(model)
    )
    sql += ", ".join([values] * len(rows))
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias  # noqa: SLF001
    key = model._meta.pk  # noqa: SLF001
    if len(rows) > 1 or not isinstance(key, models.AutoField):
        return Statement(sql, parameters)
    return Statement(f'{sql} RETURNING "{key.column}"', parameters, rows[0])


def update(model: type[models.Model], where: Mapping[str, Any], changes: Mapping[str, Any]) -> Statement:
    """`changes` to the rows whose columns equal `where`."""
    sql = _update_text(model, tuple(where), tuple(changes))
    values = (*changes.items(), *where.items())
    return Statement(sql, tuple(_column(model, name).get_db_prep_save(value, connection) for name, value in values))


def run(statements: Sequence[Statement]) -> list[int]:
    """Execute within the caller's transaction; how many rows each has written."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            return [_run_one(cursor, statement) for statement in statements]
        cursor.execute(
            "; ".join(statement.sql for statement in statements),
            [value for statement in statements for value in statement.parameters],
        )
        counts = [_taken(cursor, statements[0])]
        for statement in statements[1:]:
            cursor.nextset()
            counts.append(_taken(cursor, statement))
        return counts


def _run_one(cursor: Any, statement: Statement) -> int:
    cursor.execute(statement.sql, statement.parameters)
    return _taken(cursor, statement)


def _taken(cursor: Any, statement: Statement) -> int:
    if statement.returning is not None:
        statement.returning.pk = cursor.fetchone()[0]
        return 1
    count: int = cursor.rowcount
    return count


@lru_cache(maxsize=16)
def _fields(model: type[models.Model]) -> tuple[Any, ...]:
    return tuple(field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField))  # noqa: SLF001


@lru_cache(maxsize=16)
def _insert_text(model: type[models.Model]) -> tuple[str, str]:
    columns = [f'"{field.column}"' for field in _fields(model)]
    values = ", ".join(["%s"] * len(columns))
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) VALUES ', f"({values})"  # noqa: S608, SLF001  # nosec B608


@lru_cache(maxsize=256)
def _column(model: type[models.Model], name: str) -> Any:
    return model._meta.get_field(name)  # noqa: SLF001


@lru_cache(maxsize=256)
def _update_text(model: type[models.Model], where: tuple[str, ...], changes: tuple[str, ...]) -> str:
    def assignments(names: tuple[str, ...], separator: str) -> str:
        return separator.join(f'"{_column(model, name).column}" = %s' for name in names)

    table = model._meta.db_table  # noqa: SLF001
    return f'UPDATE "{table}" SET {assignments(changes, ", ")} WHERE {assignments(where, " AND ")}'  # noqa: S608  # nosec B608
