"""Send the writes that belong together as one statement.

The ORM compiles a statement again for each row, and each one is a round trip: together they cost an
order more than the call to the exchange. Here a chain of writes is one prepared statement, whose
text is made once per process. The rows travel as JSON text, with all amounts as decimal text, so
that none of them passes through a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, models

from exchanges.db.prepared import SHORT_LOCKS, execute_all


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert rows of one model. A single row gets the key that the database made for it.

    The row is left out unless the write with the number `only_if_wrote` in the chain has written
    something. None, or being the first write of the chain: no condition.
    """

    rows: Sequence[models.Model]
    only_if_wrote: int | None = 0


@dataclass(frozen=True, slots=True)
class Update:
    """Apply `changes` to the rows whose columns equal `where` (None: are null)."""

    model: type[models.Model]
    where: Mapping[str, Any]
    changes: Mapping[str, Any]
    only_if_wrote: int | None = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """Run an UPDATE of one's own, with `%(name)s` for each parameter. It must have a WHERE."""

    sql: str
    parameters: Mapping[str, Any]
    only_if_wrote: int | None = 0


Write = Insert | Update | Statement


def write(*chain: Write, then_commit: bool = False) -> list[int]:
    """Run the writes in the caller's transaction. Return how many rows each of them wrote.

    `then_commit`: the transaction has nothing more to do. If it is the outermost one, the same
    message commits it, and an error raised later undoes nothing.
    """
    (row,) = execute_all([_statement(chain)], then_commit=then_commit)
    return _written(chain, row)


def write_all(chains: Sequence[Sequence[Write]]) -> list[list[int]]:
    """Run the chains of several threads as one message with the commit, one after the other.

    Return the counts of each. If one fails, none is stored.
    """
    statements = [SHORT_LOCKS, *(_statement(chain) for chain in chains)]
    _, *rows = execute_all(statements, then_commit=True)
    return [_written(chain, row) for chain, row in zip(chains, rows, strict=True)]


def _statement(chain: Sequence[Write]) -> tuple[str, Sequence[Any]]:
    sql = chain_text(tuple(_shape(item, number) for number, item in enumerate(chain)))
    return sql, [value for item in chain for value in _parameters(item)]


def _written(chain: Sequence[Write], row: Sequence[Any] | None) -> list[int]:
    assert row is not None
    for item, key in zip(chain, row[len(chain) :], strict=True):
        if isinstance(item, Insert):
            _mark_stored(item.rows, key)
    return list(row[: len(chain)])


# -- The statement's text --------------------------------------------------------------------------

# The key of a write's text: its condition, its class, and its fixed parts.
Shape = tuple[int | None, type[Write], tuple[Any, ...]]


def _shape(item: Write, number: int) -> Shape:
    condition = item.only_if_wrote if number else None
    if isinstance(item, Insert):
        return condition, Insert, (type(item.rows[0]),)
    if isinstance(item, Update):
        where = tuple((name, value is None) for name, value in item.where.items())
        return condition, Update, (item.model, where, tuple(item.changes))
    return condition, Statement, (item.sql, tuple(item.parameters))


@lru_cache(maxsize=512)
def chain_text(shapes: tuple[Shape, ...]) -> str:
    """Return one statement for the chain: it selects each write's count, then each write's key."""
    numbers = count(1)

    def place() -> str:
        return f"${next(numbers)}"

    writes: list[str] = []
    keys: list[str] = []
    for number, (only_if_wrote, kind, fixed) in enumerate(shapes):
        sql, key = _TEXTS[kind](place, *fixed)
        if only_if_wrote is not None:
            sql += "\n   AND " if "\n WHERE " in sql else "\n WHERE "
            sql += f"EXISTS (SELECT FROM write_{only_if_wrote})"  # nosec B608: a number of ours
        writes.append(f"write_{number} AS (\n{sql}\nRETURNING {key or 1} AS key)")
        keys.append(_select("min(key)", number) if key else "NULL")
    counts = [_select("count(*)", number) for number in range(len(shapes))]
    return f"WITH {', '.join(writes)}\nSELECT {', '.join(counts + keys)}"


def _select(expression: str, number: int) -> str:
    return f"(SELECT {expression} FROM write_{number})"  # noqa: S608  # nosec B608


Place = Callable[[], str]


def _insert_text(place: Place, model: type[models.Model]) -> tuple[str, str]:
    table, key = model._meta.db_table, model._meta.pk  # noqa: SLF001
    assert key is not None
    columns = ", ".join(f'"{column}"' for column, _ in columns_of(model))
    sql = (
        f'INSERT INTO "{table}" ({columns})\n'  # nosec B608
        f'SELECT {columns}\n  FROM json_populate_recordset(NULL::"{table}", {place()})'
    )
    return sql, f'"{key.column}"' if isinstance(key, models.AutoField) else ""


def _update_text(
    place: Place,
    model: type[models.Model],
    where: tuple[tuple[str, bool], ...],
    changes: tuple[str, ...],
) -> tuple[str, str]:
    table = model._meta.db_table  # noqa: SLF001
    sets = ", ".join(f'"{c}" = changes."{c}"' for c in (_column(model, name) for name in changes))
    tests = [
        f't."{c}"' + (" IS NULL" if is_null else f' = wanted."{c}"')
        for c, is_null in ((_column(model, name), is_null) for name, is_null in where)
    ]
    sql = (
        f'UPDATE "{table}" AS t SET {sets}\n'  # noqa: S608  # nosec B608
        f'  FROM json_populate_record(NULL::"{table}", {place()}) AS wanted,\n'
        f'       json_populate_record(NULL::"{table}", {place()}) AS changes\n'
        f" WHERE {' AND '.join(tests)}"
    )
    return sql, ""


def _statement_text(place: Place, sql: str, names: tuple[str, ...]) -> tuple[str, str]:
    places = {name: place() for name in names}
    return re.sub(r"%\((\w+)\)s", lambda found: places[found[1]], sql).strip(), ""


_TEXTS: Mapping[type[Write], Callable[..., tuple[str, str]]] = {
    Insert: _insert_text,
    Update: _update_text,
    Statement: _statement_text,
}


# -- The parameters' values ------------------------------------------------------------------------


def _parameters(item: Write) -> Sequence[Any]:
    if isinstance(item, Insert):
        return (as_json([row_values(row) for row in item.rows]),)
    if isinstance(item, Update):
        return tuple(
            as_json({_column(item.model, name): value for name, value in part.items()})
            for part in (item.where, item.changes)
        )
    return tuple(item.parameters.values())


def row_values(row: models.Model) -> dict[str, Any]:
    """Return the columns to insert for the row, with their values."""
    return {column: getattr(row, name) for column, name in columns_of(type(row))}


def as_json(value: object) -> str:
    """Return rows as the text that `json_populate_recordset` reads."""
    try:
        return orjson.dumps(value, default=_text).decode()
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, in a message of the exchange
        return json.dumps(value, default=_text, separators=(",", ":"), ensure_ascii=False)


def _text(value: object) -> str:
    if isinstance(value, Decimal | UUID | datetime):
        return str(value)
    raise TypeError(f"A {type(value).__name__} can't be written to a column.")


# -- Rows ------------------------------------------------------------------------------------------


def _mark_stored(rows: Sequence[models.Model], key: Any) -> None:
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias  # noqa: SLF001
    if len(rows) == 1 and isinstance(rows[0]._meta.pk, models.AutoField):  # noqa: SLF001
        rows[0].pk = key


@lru_cache(maxsize=16)
def columns_of(model: type[models.Model]) -> tuple[tuple[str, str], ...]:
    """Return column and attribute of each field that we write ourselves."""
    return tuple(
        (str(field.column), field.attname)
        for field in model._meta.concrete_fields  # noqa: SLF001
        if not isinstance(field, models.AutoField)
    )


@lru_cache(maxsize=256)
def _column(model: type[models.Model], name: str) -> str:
    return str(model._meta.get_field(name).column)  # type: ignore[union-attr]  # noqa: SLF001
