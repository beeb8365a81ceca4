"""Wrap the database connection. Django finds the wrapper by the setting `ENGINE`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self

import psycopg
from django.db import DatabaseError
from django.db.backends.postgresql import base
from django.db.backends.postgresql.schema import DatabaseSchemaEditor

from backoffice.postgres.sessions import BoundedConnection, TooFewLeft

#: A connection that was idle for so long answers a question before a task relies on it.
CHECK_AFTER_IDLE_SECONDS = 10.0
_CHECK_WITHIN_SECONDS = 3.0
# A session counts if it belongs to a database: not the server's own processes.
_CONNECTIONS_LEFT = """
SELECT current_setting('max_connections')::int
     - CASE WHEN current_setting('is_superuser') = 'on' THEN 0
            ELSE current_setting('superuser_reserved_connections')::int
               + coalesce(current_setting('reserved_connections', true), '0')::int END
     - (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL)
"""


class SchemaEditor(DatabaseSchemaEditor):
    """Change tables without a time limit for each statement: filling an index may take hours.

    The limit for locks stays, because an ALTER TABLE that waits for its lock holds up every claim.
    """

    connection: DatabaseWrapper
    _unlimited: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        if not self.collect_sql:
            self._unlimited = self.connection.without_time_limits()
            self._unlimited.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(exc_type, exc_value, traceback)
        finally:
            if self._unlimited is not None:
                self._unlimited.__exit__(None, None, None)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own for PostgreSQL, with limits: see `backoffice.postgres.sessions`."""

    Database = psycopg
    SchemaEditorClass = SchemaEditor
    connection: Any

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        for name in ("session", "answer_seconds", "reserved"):  # ours, not libpq's
            params.pop(name, None)
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.pool:
            return super().get_new_connection(conn_params)
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return BoundedConnection.connect(**conn_params)

    def _configure_connection(self, connection: BoundedConnection) -> bool:
        """Set the session's limits. The pool calls this, too, for each of its connections."""
        connection.answer_seconds = self.settings_dict["OPTIONS"].get("answer_seconds") or None
        super()._configure_connection(connection)  # type: ignore[misc]
        session: dict[str, str] = self.settings_dict["OPTIONS"].get("session", {})
        if session:
            connection.execute(
                "; ".join(f"SET {name} = '{value}'" for name, value in session.items())
            )
        self._leave_some(connection)
        return True  # commit, so that a rollback doesn't undo it

    def _leave_some(self, connection: BoundedConnection) -> None:
        """Give the connection up if it is one of the last ones. A halt may take them.

        PostgreSQL's own reserve is for superusers, and often every session is one of these.
        """
        reserved = self.settings_dict["OPTIONS"].get("reserved", 0)
        if not reserved:
            return
        row = connection.execute(_CONNECTIONS_LEFT).fetchone()
        if row is not None and row[0] < reserved:
            connection.close()
            raise TooFewLeft(f"too many clients: the last {reserved} are reserved for halts")

    def close_if_stale(self) -> None:
        """Drop a connection that died while it was idle, before a task uses it.

        The server's end shows at once, without a query. A proxy or firewall may forget a
        connection silently, so a connection that was idle for long must answer a query first.
        """
        own = self.connection
        if own is None or self.in_atomic_block:
            return
        idle_seconds = monotonic() - own.answered_at
        if not (self.errors_occurred or own.has_news() or idle_seconds > CHECK_AFTER_IDLE_SECONDS):
            return
        with own.waiting_at_most(_CHECK_WITHIN_SECONDS):
            if self.is_usable():
                self.errors_occurred = False
                return
        self.close()

    @contextmanager
    def without_time_limits(self) -> Iterator[None]:
        """Let statements, and pauses between them, take as long as they need."""
        self.ensure_connection()
        session: dict[str, str] = self.settings_dict["OPTIONS"].get("session", {})
        names = ("statement_timeout", "idle_in_transaction_session_timeout")
        usual = {name: session[name] for name in names if name in session}
        self._set_session(dict.fromkeys(usual, "0"))
        try:
            with self.connection.waiting_at_most(None):
                yield
        finally:
            if self.connection is not None:
                # In a failed transaction this fails, too, and the rollback resets both.
                with suppress(DatabaseError):
                    self._set_session(usual)

    def _set_session(self, values: dict[str, str]) -> None:
        if values:
            with self.cursor() as cursor:
                cursor.execute(
                    "; ".join(f"SET {name} = '{value}'" for name, value in values.items())
                )
