"""Run prepared statements, each with the BEGIN before it and the COMMIT after it as one message.

The statements are prepared at the level of PostgreSQL's protocol, so they also work through
PgBouncer 1.22 or newer in transaction mode. libpq's pipeline mode carries the messages. psycopg's
own pipeline sends each of them by itself, which takes half as long again as all of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection
from psycopg import errors, pq
from psycopg.adapt import Transformer
from psycopg.waiting import Ready, Wait

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

Row = tuple[Any, ...]


# The text of a statement, and its parameters.
Statement = tuple[str, Sequence[Any]]


# For a transaction of several threads: a lock on one's row must not hold up the others for long.
SHORT_LOCKS: Statement = ("SELECT set_config('lock_timeout', '500ms', true)", ())


def execute(sql: str, parameters: Sequence[Any], *, then_commit: bool = False) -> Row | None:
    """Return the first row of a statement, or None. `$1`, `$2`, … stand for the parameters.

    The statement is prepared once per connection. All parameters travel as text, and the statement
    decides their types. `then_commit` commits together with the statement if the caller's
    transaction is the outermost one: an error raised later undoes nothing.
    """
    return execute_all([(sql, parameters)], then_commit=then_commit)[0]


def execute_all(statements: Sequence[Statement], *, then_commit: bool = False) -> list[Row | None]:
    """Run several statements as one message, one after the other. Return the first row of each.

    If one fails, those after it don't run.
    """
    connection.ensure_connection()
    commit = then_commit and len(connection.atomic_blocks) == 1
    cursor: Any = _Cursor(connection.connection, statements, commit=commit)
    # Django's wrapper translates the errors and logs the statement, as it does for the ORM.
    is_logged = connection.queries_logged
    wrap = connection.make_debug_cursor if is_logged else connection.make_cursor
    wrap(cursor).execute("; ".join(sql for sql, _ in statements))
    return cursor.rows  # type: ignore[no-any-return]


class _Cursor:
    """A database cursor with just the methods that Django's wrapper needs."""

    def __init__(
        self, own: psycopg.Connection[Any], statements: Sequence[Statement], *, commit: bool
    ) -> None:
        self._own = own
        self._wanted = [
            (sql, [None if value is None else str(value).encode() for value in parameters])
            for sql, parameters in statements
        ]
        self._commit = commit
        self.rows: list[Row | None] = []

    def execute(self, sql: str) -> None:
        self._query = SimpleNamespace(query=sql.encode())  # Django's query log reads it
        was_idle = self._own.pgconn.transaction_status == pq.TransactionStatus.IDLE
        known = _statements.setdefault(self._own, _Statements())
        try:
            self._run(known, begin=was_idle and not self._own.autocommit)
        except errors.FeatureNotSupported:
            # "cached plan must not change result type": a column has another type since the
            # statement was prepared. A transaction that had begun before can't be saved.
            for text, _ in self._wanted:
                known.forget(text)
            if not was_idle:
                raise
            self._own.rollback()
            self._run(known, begin=not self._own.autocommit)

    def _run(self, statements: _Statements, *, begin: bool) -> None:
        pgconn = self._own.pgconn
        commands: list[tuple[_Command, str, bytes]] = []  # with the text and name of its statement
        sends: list[Callable[[], None]] = []
        fresh: dict[str, bytes] = {}
        if begin:
            sends.append(partial(pgconn.send_query_params, b"BEGIN", None))
            commands.append((_Command.OTHER, "", b""))
        for sql, parameters in self._wanted:
            name, text = statements.prepare(sql) if sql not in fresh else (fresh[sql], None)
            if text is not None:
                fresh[sql] = name
                sends.append(partial(pgconn.send_prepare, name, text))
                commands.append((_Command.PREPARE, sql, name))
            sends.append(partial(pgconn.send_query_prepared, name, parameters))
            commands.append((_Command.RUN, sql, name))
        if self._commit:
            sends.append(partial(pgconn.send_query_params, b"COMMIT", None))
            commands.append((_Command.OTHER, "", b""))
        try:
            with self._own.lock:
                pgconn.enter_pipeline_mode()
                results = self._own.wait(_results(pgconn, sends))
                pgconn.exit_pipeline_mode()
        except BaseException:
            # Interrupted in the middle of an answer: nothing else can be read from it.
            self._own.close()
            raise
        self.rows = []
        for (command, sql, name), result in zip(commands, results, strict=False):
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result, encoding="utf-8")
            if command is _Command.PREPARE:
                statements.known[sql] = name
            elif command is _Command.RUN:
                self.rows.append(self._first_row(result))

    def _first_row(self, result: PGresult) -> Row | None:
        if not result.ntuples:
            return None
        transformer = Transformer(self._own)
        transformer.set_pgresult(result)
        return transformer.load_row(0, tuple)


class _Command(Enum):
    PREPARE = auto()
    RUN = auto()
    OTHER = auto()


class _Statements:
    """The statements that one connection has prepared."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self._tries: dict[str, int] = {}
        self._number = 0

    def prepare(self, sql: str) -> tuple[bytes, bytes | None]:
        """Return the statement's name, and its text if it must be prepared first."""
        if name := self.known.get(sql):
            return name, None
        self._number += 1
        # PgBouncer shares prepared statements by their text: a comment makes it prepare again.
        again = f" -- {tries}" if (tries := self._tries.get(sql)) else ""
        return b"backoffice_%d" % self._number, (sql + again).encode()

    def forget(self, sql: str) -> None:
        self.known.pop(sql, None)
        self._tries[sql] = self._tries.get(sql, 0) + 1


# A connection that was renewed starts with none.
_statements: WeakKeyDictionary[psycopg.Connection[Any], _Statements] = WeakKeyDictionary()


def _results(pgconn: PGconn, sends: Sequence[Callable[[], None]]) -> PQGen[list[PGresult]]:
    """Send the commands, and return the results of all up to the pipeline's end.

    Nothing is on its way before the connection begins to wait.
    """
    for send in sends:
        send()
    pgconn.pipeline_sync()
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:  # the end of one command's results
            if pgconn.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError(pgconn.get_error_message())
        elif result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)
