"""Writes that go together, as one message to the database.

The ORM compiles a statement anew for each row, and each one is a round trip: together they cost an order more than the
call to the exchange. Here a chain of writes has its text made once a process; on PostgreSQL it is one prepared
statement, whose rows travel as JSON text (every figure as decimal text, so that none passes through a float). The
transaction's BEGIN goes out with its first statement, and its COMMIT with the last, where the caller says that it is
the last. SQLite, which has no server, runs the writes one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
from django.db import connection, models
from psycopg.pq import TransactionStatus


@dataclass(frozen=True, slots=True)
class Insert:
    """New rows of one model. A single row gets the key that the database made.

    `after`: which write of the chain must have written something, else this one is left out; None for the first.
    """

    rows: Sequence[models.Model]
    after: int | None = 0


@dataclass(frozen=True, slots=True)
class Update:
    """`changes` to the rows whose columns equal `where` (None: are null). `after` as of `Insert`."""

    model: type[models.Model]
    where: Mapping[str, Any]
    changes: Mapping[str, Any]
    after: int | None = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """A write of one's own, PostgreSQL only: `{0}`, `{1}`, … stand for the parameters. `after` as of `Insert`."""

    sql: str
    parameters: tuple[Any, ...]
    after: int | None = 0


Write = Insert | Update | Statement


def write(*chain: Write, is_last: bool = False) -> list[int]:
    """Execute within the caller's transaction; how many rows each has written.

    `is_last`: the transaction has nothing more to do, and commits with it if it is the outermost. Whoever raises
    afterwards undoes nothing.
    """
    if connection.vendor == "sqlite":
        counts: list[int] = []
        for item in chain:
            counts.append(_write_one(item) if item.after is None or not counts or counts[item.after] else 0)
        return counts
    sql = _chain_text(tuple(_shape(item, number) for number, item in enumerate(chain)))
    row = execute(sql, [value for item in chain for value in _values(item)], is_last=is_last)
    assert row is not None
    for item, key in zip(chain, row[len(chain) :], strict=True):
        if isinstance(item, Insert):
            _mark_stored(item.rows, key)
    return list(row[: len(chain)])


def execute(sql: str, parameters: Sequence[Any], *, is_last: bool = False) -> tuple[Any, ...] | None:
    """The first row of a statement that is prepared once a connection (`$1`, `$2`, … are its parameters), or None.

    Call it inside a transaction, on PostgreSQL.
    """
    own: Any = connection.connection
    begin = end = ""
    if own.info.transaction_status == TransactionStatus.IDLE:
        # psycopg would send BEGIN by itself, and wait for the answer.
        with connection.wrap_database_errors:
            own.autocommit = True
        begin = "BEGIN; "
    if is_last and len(connection.atomic_blocks) == 1:
        end = "; COMMIT"
    with connection.cursor() as cursor:
        name = _prepared(own, sql, cursor)
        places = ", ".join(["%s"] * len(parameters))
        cursor.execute(f"{begin}EXECUTE {name}({places}){end}", parameters)
        if begin:
            cursor.nextset()
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


_names: dict[str, str] = {}
_numbers = count(1)
_known: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def _prepared(own: Any, sql: str, cursor: Any) -> str:
    name = _names.get(sql)
    if name is None:
        name = _names.setdefault(sql, f"backoffice_{next(_numbers)}")
    known = _known.setdefault(own, set())
    if name not in known:
        cursor.execute(f"PREPARE {name} AS {sql}")
        known.add(name)
    return name


# -- PostgreSQL: one statement of many ------------------------------------------------------------------------------

_Shape = tuple[Any, ...]


def _shape(item: Write, number: int) -> _Shape:
    """What the text depends on."""
    after = item.after if number else None
    if isinstance(item, Insert):
        return Insert, after, type(item.rows[0])
    if isinstance(item, Update):
        where = tuple((name, value is None) for name, value in item.where.items())
        return Update, after, item.model, where, tuple(item.changes)
    return Statement, after, item.sql, len(item.parameters)


@lru_cache(maxsize=512)
def _chain_text(shapes: tuple[_Shape, ...]) -> str:
    parts: list[str] = []
    keys: list[str] = []
    numbers = count(1)
    for number, (kind, after, *rest) in enumerate(shapes):
        condition = "" if after is None else f"EXISTS (SELECT FROM w{after})"  # nosec B608
        if kind is Insert:
            text, key = _insert_part(rest[0], f"${next(numbers)}", condition)
        elif kind is Update:
            text, key = (
                _update_part(rest[0], rest[1], rest[2], f"${next(numbers)}", f"${next(numbers)}", condition),
                "1",
            )
        else:
            places = [f"${next(numbers)}" for _ in range(rest[1])]
            text, key = _and(str(rest[0]).format(*places), condition), "1"
        parts.append(f"w{number} AS ({text} RETURNING {key} AS key)")
        keys.append("NULL" if key == "1" else _one("min(key)", number))
    counts = [_one("count(*)", number) for number in range(len(shapes))]
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts + keys)}"


def _one(figure: str, number: int) -> str:
    return f"(SELECT {figure} FROM w{number})"  # noqa: S608  # nosec B608


def _insert_part(model: type[models.Model], place: str, condition: str) -> tuple[str, str]:
    table, key = model._meta.db_table, model._meta.pk  # noqa: SLF001
    assert key is not None
    columns = ", ".join(f'"{each.column}"' for each in _fields(model))
    sql = f'INSERT INTO "{table}" ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::"{table}", {place})'  # noqa: S608  # nosec B608
    where = f" WHERE {condition}" if condition else ""
    return sql + where, f'"{key.column}"' if isinstance(key, models.AutoField) else "1"


def _update_part(
    model: type[models.Model],
    where: tuple[tuple[str, bool], ...],
    changes: tuple[str, ...],
    found_by: str,
    place: str,
    condition: str,
) -> str:
    table = model._meta.db_table  # noqa: SLF001
    columns = [_column(model, name).column for name in changes]
    sets = ", ".join(f'"{column}" = c."{column}"' for column in columns)
    row = f'json_populate_record(NULL::"{table}"'
    tests = [
        f't."{_column(model, name).column}"' + (" IS NULL" if is_null else f' = f."{_column(model, name).column}"')
        for name, is_null in where
    ]
    sql = f'UPDATE "{table}" AS t SET {sets} FROM {row}, {place}) AS c, {row}, {found_by}) AS f'  # noqa: S608  # nosec B608
    return _and(f"{sql} WHERE {' AND '.join(tests)}", condition)


def _and(sql: str, condition: str) -> str:
    return f"{sql} AND {condition}" if condition else sql


def _values(item: Write) -> Sequence[Any]:
    if isinstance(item, Insert):
        names = _names_of(type(item.rows[0]))
        return (_as_json([{column: getattr(row, name) for column, name in names} for row in item.rows]),)
    if isinstance(item, Update):
        return tuple(
            _as_json({_column(item.model, name).column: value for name, value in part.items()})
            for part in (item.where, item.changes)
        )
    return item.parameters


def _as_json(value: object) -> str:
    try:
        return orjson.dumps(value, default=_text).decode()
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, in a message of the exchange's
        return json.dumps(value, default=_text, separators=(",", ":"), ensure_ascii=False)


def _text(value: object) -> str:
    if isinstance(value, Decimal | UUID | datetime):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")


# -- SQLite: one after the other ------------------------------------------------------------------------------------


def _write_one(item: Write) -> int:
    assert not isinstance(item, Statement)
    with connection.cursor() as cursor:
        if isinstance(item, Update):
            cursor.execute(*_update_alone(item))
            written: int = cursor.rowcount
            return written
        model = type(item.rows[0])
        sql, values = _insert_alone(model)
        cursor.execute(sql + ", ".join([values] * len(item.rows)), [v for row in item.rows for v in _columns_of(row)])
        _mark_stored(item.rows, cursor.lastrowid)
        return len(item.rows)


def _columns_of(row: models.Model) -> list[Any]:
    return [each.get_db_prep_save(getattr(row, each.attname), connection) for each in _fields(type(row))]


def _update_alone(item: Update) -> tuple[str, list[Any]]:
    where = tuple((name, value is None) for name, value in item.where.items())
    values = [*item.changes.items(), *((name, value) for name, value in item.where.items() if value is not None)]
    return _update_text(item.model, where, tuple(item.changes)), [
        _column(item.model, name).get_db_prep_save(value, connection) for name, value in values
    ]


@lru_cache(maxsize=256)
def _update_text(model: type[models.Model], where: tuple[tuple[str, bool], ...], changes: tuple[str, ...]) -> str:
    sets = ", ".join(f'"{_column(model, name).column}" = %s' for name in changes)
    tests = " AND ".join(
        f'"{_column(model, name).column}" ' + ("IS NULL" if is_null else "= %s") for name, is_null in where
    )
    return f'UPDATE "{model._meta.db_table}" SET {sets} WHERE {tests}'  # noqa: S608, SLF001  # nosec B608


@lru_cache(maxsize=16)
def _insert_alone(model: type[models.Model]) -> tuple[str, str]:
    columns = [f'"{each.column}"' for each in _fields(model)]
    values = ", ".join(["%s"] * len(columns))
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) VALUES ', f"({values})"  # noqa: S608, SLF001  # nosec B608


# -- both -----------------------------------------------------------------------------------------------------------


def _mark_stored(rows: Sequence[models.Model], key: Any) -> None:
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias  # noqa: SLF001
    if len(rows) == 1 and isinstance(rows[0]._meta.pk, models.AutoField):  # noqa: SLF001
        rows[0].pk = key


@lru_cache(maxsize=16)
def _fields(model: type[models.Model]) -> tuple[Any, ...]:
    return tuple(each for each in model._meta.concrete_fields if not isinstance(each, models.AutoField))  # noqa: SLF001


@lru_cache(maxsize=16)
def _names_of(model: type[models.Model]) -> tuple[tuple[str, str], ...]:
    """Column and attribute of each field."""
    return tuple((each.column, each.attname) for each in _fields(model))


@lru_cache(maxsize=256)
def _column(model: type[models.Model], name: str) -> Any:
    return model._meta.get_field(name)  # noqa: SLF001
