"""Check which errors of the database mean "later", and which mean "never"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, Error, InternalError, OperationalError, connection, transaction
from django.db.utils import DatabaseErrorWrapper
from psycopg import errors
from psycopg_pool import PoolTimeout

from backoffice.postgres.sessions import AnswerTimeout
from exchanges import clock
from orders.db_retry import is_database_away, with_db_retry

LATER = {
    "08000": "connection exception",
    "08001": "cannot connect",
    "08003": "connection does not exist",
    "08006": "connection failure",
    "25006": "read-only transaction",
    "25P03": "idle in transaction",
    "26000": "the pooler's other session",
    "3F000": "no such schema yet",
    "42501": "no privilege yet",
    "42703": "no such column yet",
    "42883": "no such function yet",
    "42P01": "no such table yet",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "53000": "insufficient resources",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many clients",
    "55P03": "lock timeout",
    "57014": "statement timeout",
    "57P01": "administrator shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now",
    "57P04": "the database was dropped",
    "57P05": "idle session",
    "58030": "I/O error",
}
NEVER = {
    "0A000": "not supported",
    "22001": "text too long",
    "22003": "number out of range",
    "22P02": "not a number",
    "23502": "not null",
    "23503": "foreign key",
    "23505": "unique",
    "23514": "check",
    "25P02": "failed transaction",
    "42601": "a statement that can't be read",
    "42804": "another type than the column's",
    "XX000": "internal error",
}


def wrapped(error: Exception) -> Error:
    """Return the error as Django raises it."""
    try:
        with DatabaseErrorWrapper(connection):
            raise error
    except Error as found:
        return found


@pytest.mark.parametrize("state", LATER)
def test_is_database_away__yes(state: str) -> None:
    assert is_database_away(wrapped(errors.lookup(state)(LATER[state])))


@pytest.mark.parametrize("state", NEVER)
def test_is_database_away__no(state: str) -> None:
    assert not is_database_away(wrapped(errors.lookup(state)(NEVER[state])))


def test_is_database_away__read_only_is_an_internal_error_to_django() -> None:
    assert isinstance(wrapped(errors.ReadOnlySqlTransaction("read-only")), InternalError)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.OperationalError("connection refused"),
        psycopg.errors.ConnectionTimeout("connection timeout expired"),
        psycopg.InterfaceError("the connection is closed"),
        psycopg.DatabaseError("lost synchronization with server"),
        AnswerTimeout("the database did not answer within 20 s"),
        PoolTimeout("couldn't get a connection after 3.00 sec"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_is_database_away__without_a_word_of_the_server(error: Exception) -> None:
    assert is_database_away(wrapped(error))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), None, psycopg.DataError("x")])
def test_is_database_away__errors_of_ours(error: Exception | None) -> None:
    assert not is_database_away(error)


@pytest.mark.django_db(transaction=True)
def test_is_database_away__a_plan_that_a_migration_made_stale() -> None:
    """The message depends on the server's language, and 0A000 covers much else."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE wide (name varchar(4))")
        cursor.execute("PREPARE reading AS SELECT name FROM wide")
        cursor.execute("ALTER TABLE wide ALTER name TYPE varchar(8)")
        with pytest.raises(DatabaseError, match="cached plan must not change") as stale:
            cursor.execute("EXECUTE reading")
        with pytest.raises(DatabaseError) as unsupported:
            cursor.execute("SELECT count(*) FROM wide FOR UPDATE")
    connection.close()
    assert is_database_away(stale.value)
    assert not is_database_away(unsupported.value)


# -- with_db_retry ---------------------------------------------------------------------------------


class Work:
    def __init__(self, *failures: Exception, lasting: float = 0.0) -> None:
        self.failures = list(failures)
        self.lasting = lasting
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        clock.sleep(self.lasting)
        if self.failures:
            with DatabaseErrorWrapper(connection):
                raise self.failures.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(clock, "sleep", sleep)
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    return lambda: now[0]


@pytest.mark.django_db(transaction=True)
def test_with_db_retry__repeats_on_a_new_connection() -> None:
    connection.ensure_connection()
    lost: Any = connection.connection
    work = Work(errors.ReadOnlySqlTransaction("read-only"), psycopg.OperationalError("gone"))
    assert with_db_retry(work) == "done"
    assert work.runs == 3
    assert lost.closed


@pytest.mark.django_db(transaction=True)
def test_with_db_retry__gives_up_after_some_seconds(time: Callable[[], float]) -> None:
    work = Work(*[psycopg.OperationalError("gone")] * 100)
    with pytest.raises(OperationalError):
        with_db_retry(work)
    assert 5 < time() < 10


@pytest.mark.django_db(transaction=True)
def test_with_db_retry__does_not_wait_for_one_silence_after_the_other(
    time: Callable[[], float],
) -> None:
    work = Work(*[AnswerTimeout("no answer")] * 100, lasting=20)
    with pytest.raises(OperationalError):
        with_db_retry(work)
    assert work.runs == 1
    assert time() < 21


@pytest.mark.django_db(transaction=True)
def test_with_db_retry__does_not_repeat_a_mistake() -> None:
    work = Work(errors.UniqueViolation("twice"))
    with pytest.raises(DatabaseError):
        with_db_retry(work)
    assert work.runs == 1


@pytest.mark.django_db(transaction=True)
def test_with_db_retry__inside_a_transaction_there_is_nothing_to_repeat() -> None:
    work = Work(psycopg.OperationalError("gone"))
    with pytest.raises(OperationalError), transaction.atomic():
        with_db_retry(work)
    assert work.runs == 1
