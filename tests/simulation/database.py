"""One PostgreSQL for the simulation: sessions that switch tasks, and faults of the database.

Every message to the server is a boundary (`SimConnection.wait`). A statement that waits for a lock
lets other tasks run: the server itself says so (`pg_blocking_pids`). The server's clock is the
simulation's, because `STATEMENT_TIMESTAMP()` is replaced by the time in each statement's text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from select import POLLIN, POLLOUT, poll
from typing import Any

import psycopg
from django.db import connection, connections
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from backoffice.local.postgres import PostgresServer
from backoffice.postgres import base
from backoffice.postgres.sessions import BoundedConnection
from tests.simulation.scheduler import BEGIN_US, Process, Scheduler, Stuck, Task

USUAL_LOCK_SECONDS = 5.0
#: Real time that the server may need for its usual work, on a machine under load.
_SERVER_SECONDS = 120.0
PATIENCE_MS = 4  # after so long without an answer we ask whether a lock holds the statement up
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCK_TIMEOUT = re.compile(r"SET LOCAL lock_timeout = (?:'(\d+)ms'|DEFAULT)")
_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)
#: Replaces `prepared.SHORT_LOCKS`, whose time the server would measure by its own clock.
SHORT_LOCKS = ("SELECT set_config('simulation.short_locks', 'on', true)", ())
# Not emptied: what migrations made and no story changes.
_KEPT = ("django_migrations", "django_content_type", "auth_permission")


def moment(us: int) -> datetime:
    """Return a time of the simulation, aware UTC."""
    return _EPOCH + timedelta(microseconds=us)


class Lost(psycopg.OperationalError):
    """The connection was lost by a fault of the simulation."""


class Database:
    """The server behind one process of the simulation, and what is wrong with it now."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.monitor = server.connect(name)
        # Rows that nobody may change are emptied, too.
        self.monitor.execute("SET session_replication_role = replica")
        self._first_rows = self._keep_first_rows()
        self.scheduler: Scheduler | None = None
        self.sessions: dict[int, tuple[SimConnection, Process]] = {}
        self.is_away = False
        self.is_read_only = False
        self.lose_next: list[tuple[str, str]] = []  # (process, "before" or "after")
        self.statements = self.lock_waits = 0
        self._claims_then: dict[Task, frozenset[int]] = {}
        self._tables: list[str] = []
        self._backup_sequences: dict[str, int] = {}
        self._undo: list[str] = []

    # -- the life of a seed

    def begin(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.sessions.clear()
        self.is_away = self.is_read_only = False
        self.lose_next.clear()
        self.lock_waits = 0
        self.empty()

    def empty(self) -> None:
        """Empty every table that has pages."""
        rows = self.monitor.execute(
            f"{_TABLES} AND relname <> ALL (%s) AND pg_relation_size(oid) > 0",
            (list(_KEPT),),
        ).fetchall()
        names = ", ".join(f'"{name}"' for (name,) in sorted(rows))
        if names:
            self.monitor.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
        for table in self._first_rows:
            self.monitor.execute(f'INSERT INTO public."{table}" SELECT * FROM first."{table}"')

    def _keep_first_rows(self) -> list[str]:
        """Copy the rows that the migrations have made."""
        self.monitor.execute("CREATE SCHEMA first")
        rows = self.monitor.execute(
            f"{_TABLES} AND relname <> ALL (%s) AND pg_relation_size(oid) > 0", (list(_KEPT),)
        ).fetchall()
        for (name,) in rows:
            self.monitor.execute(f'CREATE TABLE first."{name}" AS SELECT * FROM public."{name}"')
        return sorted(name for (name,) in rows)

    def undo_later(self, statement: str) -> None:
        """Run this after the story: it takes back a migration."""
        self._undo.append(statement)

    def undo(self) -> None:
        """Take back the migrations of the story."""
        if self._undo:
            self.end_sessions()
            self.empty()
        for statement in self._undo:
            self.monitor.execute(statement)
        self._undo.clear()

    # -- faults

    def end_sessions(self, process: Process | None = None) -> None:
        """End the sessions of one process, or all: what they had not committed is undone."""
        ended = [
            (pid, own)
            for pid, (own, owner) in self.sessions.items()
            if process is None or owner is process
        ]
        for pid, own in ended:
            del self.sessions[pid]
            own.was_ended = True
        if not ended:
            return
        pids = [pid for pid, _ in ended]
        self.monitor.execute("SELECT pg_terminate_backend(p) FROM unnest(%s::int[]) p", (pids,))
        self._wait_for_end(pids)

    def _wait_for_end(self, pids: list[int]) -> None:
        """Wait until the server has ended these sessions, and freed their locks."""
        give_up_at = time.monotonic() + _SERVER_SECONDS
        while time.monotonic() < give_up_at:
            left = self.monitor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)", (pids,)
            ).fetchone()
            if left == (0,):
                return
            time.sleep(0.001)
        raise Stuck("sessions do not end")

    def forget(self, pid: int) -> None:
        """Wait for the end of a session whose client has hung up."""
        self.sessions.pop(pid, None)
        self._wait_for_end([pid])

    def back_up(self) -> None:
        """Copy every table, as a backup or as the state that a replica has."""
        self.monitor.execute("DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup")
        rows = self.monitor.execute(
            f"{_TABLES} AND relname ~ '^(orders|exchanges|people)_'"
        ).fetchall()
        self._tables = sorted(name for (name,) in rows)
        for name in self._tables:
            self.monitor.execute(f'CREATE TABLE backup."{name}" AS SELECT * FROM public."{name}"')
        self._backup_sequences = dict(
            self.monitor.execute(
                "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences"
                " WHERE schemaname = 'public'"
            ).fetchall()
        )

    @property
    def has_backup(self) -> bool:
        return bool(self._tables)

    def forget_backup(self) -> None:
        self._tables = []

    def restore(self) -> None:
        """Put the copy back. Open transactions are undone."""
        self.end_sessions()
        names = ", ".join(f'public."{name}"' for name in self._tables)
        with self.monitor.transaction():
            self.monitor.execute(f"TRUNCATE {names} CASCADE")
            for name in self._tables:
                self.monitor.execute(f'INSERT INTO public."{name}" SELECT * FROM backup."{name}"')
            for name, value in self._backup_sequences.items():
                self.monitor.execute(
                    "SELECT setval(%s::regclass, %s, %s)",
                    (f'public."{name}"', max(value, 1), value > 0),
                )

    # -- used by the sessions

    def blocking(self, pid: int) -> bool:
        row = self.monitor.execute(
            "SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)
        ).fetchone()
        return bool(row and row[0])

    def event_number(self) -> int:
        """Return the number of the newest order event, committed or not."""
        row = self.monitor.execute(
            "SELECT coalesce(pg_sequence_last_value('orders_orderevent_id_seq'), 0)"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def claims_before(self, task: Task, work: Callable[[], None]) -> frozenset[int]:
        """Do the work. Return the claims that had committed when its own commit was answered."""
        self._claims_then[task] = frozenset()
        try:
            work()
        finally:
            claims = self._claims_then.pop(task)
        return claims

    def note_answer(self, task: Task) -> None:
        """Remember which claims have committed by now, before another task can run."""
        if task in self._claims_then:
            rows = self.monitor.execute(
                "SELECT id FROM orders_orderevent WHERE event_type = 'CLAIMED'"
            )
            self._claims_then[task] = frozenset(number for (number,) in rows.fetchall())


_database: Database | None = None


class SimConnection(BoundedConnection):
    """A session that switches tasks with every message, and meets the database's faults."""

    was_ended = False
    lock_seconds = USUAL_LOCK_SECONDS
    is_gone = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        database = _database
        scheduler = database.scheduler if database is not None else None
        task = scheduler.mine() if scheduler is not None else None
        if database is None or scheduler is None or task is None:
            return super().wait(gen, interval=interval, timeout=timeout)
        self._boundary(database, scheduler, task)
        loss = _take_loss(database, task)
        if loss == "before":
            self._lose(database, scheduler, task)
        database.statements += 1
        try:
            answer = self._answer(gen, database, scheduler)
        except errors.QueryCanceled as canceled:
            raise errors.LockNotAvailable("the lock was not free in time") from canceled
        database.note_answer(task)
        if loss == "after":
            self._lose(database, scheduler, task)
        scheduler.boundary("answered", task.statement)
        if self.was_ended:
            self._lose(database, scheduler, task)
        return answer

    def _boundary(self, database: Database, scheduler: Scheduler, task: Task) -> None:
        scheduler.boundary("database", task.statement)
        if self.was_ended or database.is_away:
            self._lose(database, scheduler, task)

    def _lose(self, database: Database, scheduler: Scheduler, task: Task) -> None:
        scheduler.trace("session lost", task.name)
        pid = 0 if self.closed else self.pgconn.backend_pid
        self.close()
        if pid and not self.was_ended:
            database.forget(pid)  # else its locks would end at a moment of the server's own
        raise Lost("server closed the connection unexpectedly")

    def _answer(self, gen: Any, database: Database, scheduler: Scheduler) -> Any:
        socket = self.pgconn.socket
        try:
            wanted = next(gen)
            while True:
                ready = _poll(socket, wanted, PATIENCE_MS)
                if ready:
                    wanted = gen.send(ready)
                elif database.blocking(self.pgconn.backend_pid):
                    database.lock_waits += 1
                    scheduler.wait_for_lock(_Held(self, database), self.lock_seconds)
        except StopIteration as done:
            return done.value


class _Held:
    """A statement that waits for a lock."""

    def __init__(self, own: SimConnection, database: Database) -> None:
        self._own = own
        self._database = database

    def is_over(self) -> bool:
        if self._own.was_ended or self._own.closed:
            return True
        pid, socket = self._own.pgconn.backend_pid, self._own.pgconn.socket
        give_up_at = time.monotonic() + _SERVER_SECONDS
        while time.monotonic() < give_up_at:
            if _poll(socket, Wait.R, 0):
                return True
            if self._database.blocking(pid):
                return False
            time.sleep(0.0005)
        raise Stuck(f"session {pid} neither answers nor waits")

    def give_up(self) -> None:
        self._database.monitor.execute(
            "SELECT pg_cancel_backend(%s)", (self._own.pgconn.backend_pid,)
        )


def _poll(socket: int, wanted: Wait, timeout_ms: int) -> Ready | None:
    mask = (POLLIN if wanted & Wait.R else 0) | (POLLOUT if wanted & Wait.W else 0)
    watch = poll()
    watch.register(socket, mask)
    events = watch.poll(timeout_ms)
    if not events:
        return None
    got = events[0][1]
    ready = 0
    if got & ~POLLOUT and wanted & Wait.R:
        ready |= int(Ready.R)
    if got & POLLOUT and wanted & Wait.W:
        ready |= int(Ready.W)
    return Ready(ready) if ready else None


def _take_loss(database: Database, task: Task) -> str | None:
    for number, (process, when) in enumerate(database.lose_next):
        if process == task.process.name:
            del database.lose_next[number]
            return when
    return None


def _note_statement(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Tell the task's statement to the record, and replace the clock and the time-outs in it."""
    database = _database
    task = database.scheduler.mine() if database and database.scheduler else None
    if database is None or database.scheduler is None or task is None:
        return execute(sql, params, many, context)
    task.statement = _short(sql)
    if database.is_read_only and not sql.lstrip().startswith("SELECT"):
        with connection.wrap_database_errors:
            raise errors.ReadOnlySqlTransaction("cannot execute in a read-only transaction")
    own = connection.connection
    if own.pgconn.transaction_status == TransactionStatus.IDLE:
        own.lock_seconds = USUAL_LOCK_SECONDS  # a transaction's own limit ends with it
    if SHORT_LOCKS[0] in sql:
        own.lock_seconds = 0.5
    found = _LOCK_TIMEOUT.match(sql)
    if found is not None:
        own.lock_seconds = int(found[1]) / 1000 if found[1] else USUAL_LOCK_SECONDS
        sql = "SELECT 1"
    if "STATEMENT_TIMESTAMP()" in sql:
        now = moment(database.scheduler.now_us).isoformat()
        sql = sql.replace("STATEMENT_TIMESTAMP()", f"TIMESTAMPTZ '{now}'")
    return execute(sql, params, many, context)


_NAMES = re.compile(r'(?:INTO|UPDATE|FROM|TABLE|write_0 AS \(\s*\w+(?: INTO)?)\s+"?(\w+)"?')


def _short(sql: str) -> str:
    head = sql.lstrip()[:6]
    found = _NAMES.search(sql)
    return f"{head} {found[1] if found else ''}".strip()


def _new_connection(self: base.DatabaseWrapper, params: dict[str, Any]) -> Any:
    database = _database
    assert database is not None
    task = database.scheduler.mine() if database.scheduler else None
    if task is not None and database.scheduler is not None:
        task.statement = "connect"
        database.scheduler.boundary("connect", "")
        if database.is_away:
            raise psycopg.OperationalError("connection refused")
    self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    own = SimConnection.connect(**params)
    if task is not None:
        database.sessions[own.pgconn.backend_pid] = (own, task.process)
        if _note_statement not in self.execute_wrappers:
            self.execute_wrappers.append(_note_statement)
    return own


def end_thread(task: Task) -> None:
    """Drop the sessions of a thread that ends, without a word to the server."""
    database = _database
    for wrapper in connections.all(initialized_only=True):
        own = wrapper.connection
        if own is not None:
            if database is not None and not own.closed:
                database.sessions.pop(own.pgconn.backend_pid, None)
            own.close()
            wrapper.connection = None


@contextmanager
def installed(database: Database) -> Iterator[None]:
    """Let Django's sessions in this process be the simulation's."""
    global _database
    before = base.DatabaseWrapper.get_new_connection
    _database = database
    base.DatabaseWrapper.get_new_connection = _new_connection  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        base.DatabaseWrapper.get_new_connection = before  # type: ignore[method-assign]
        _database = None


__all__ = ["BEGIN_US", "Database", "SimConnection", "end_thread", "installed", "moment"]
