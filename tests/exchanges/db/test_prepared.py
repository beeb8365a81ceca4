"""Prepared statements survive lost connections and changed columns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import DatabaseError, IntegrityError, NotSupportedError, connection, transaction
from django.test.utils import CaptureQueriesContext

from exchanges.db.prepared import execute, execute_all

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "test_prepared"
SELECT = f"SELECT word FROM {TABLE} WHERE id = $1"


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    run(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, word varchar(5))")
    run(f"INSERT INTO {TABLE} VALUES (1, 'one')")
    yield
    run(f"DROP TABLE {TABLE}")


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def widen(length: int) -> None:
    run(f"ALTER TABLE {TABLE} ALTER COLUMN word TYPE varchar({length})")


def test_execute__no_row_is_none() -> None:
    assert execute(SELECT, [2]) is None


def test_execute__a_column_may_change_its_type_under_a_living_connection() -> None:
    for length in (6, 7, 8):
        with transaction.atomic():
            assert execute(SELECT, [1]) == ("one",)
        widen(length)
        assert execute(SELECT, [1]) == ("one",)
        assert connection.get_autocommit()


def test_execute__a_changed_column_fails_one_begun_transaction_at_most() -> None:
    execute(SELECT, [1])
    widen(6)

    @transaction.atomic
    def read_second() -> object:
        run("SELECT 1")
        return execute(SELECT, [1])

    with pytest.raises(NotSupportedError):
        read_second()
    assert read_second() == ("one",)


def test_execute__a_renewed_connection_prepares_again() -> None:
    execute(SELECT, [1])
    connection.close()
    with transaction.atomic():
        assert execute(SELECT, [1]) == ("one",)


def test_execute__a_killed_connection_is_an_error_and_is_closed() -> None:
    execute(SELECT, [1])
    connection.connection.pgconn.finish()
    with pytest.raises(DatabaseError):
        execute(SELECT, [1])
    connection.close()
    assert execute(SELECT, [1]) == ("one",)


def test_execute__a_server_that_hangs_up_is_an_error() -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        execute("SELECT pg_terminate_backend(pg_backend_pid())", [])
    assert execute(SELECT, [1]) == ("one",)


def test_execute__a_refused_value_leaves_the_statement_prepared() -> None:
    for value in ("x", "y"):
        with pytest.raises(DatabaseError), transaction.atomic():
            execute(SELECT, [value])
    assert execute(SELECT, [1]) == ("one",)


def test_execute__rolls_back_what_it_began() -> None:
    @transaction.atomic
    def fail() -> None:
        execute(f"INSERT INTO {TABLE} VALUES ($1, $2) RETURNING id", [2, None])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert execute(SELECT, [2]) is None


def test_execute__is_seen_by_query_counters() -> None:
    with CaptureQueriesContext(connection) as seen:
        execute(SELECT, [1])
    assert [query["sql"] for query in seen] == [SELECT]


def test_execute_all__runs_one_after_the_other_and_commits_with_the_last() -> None:
    add = f"INSERT INTO {TABLE} SELECT CAST($1 AS bigint), $2 RETURNING id"
    for number in (2, 4):  # prepared, and then known
        with transaction.atomic():
            found = execute_all(
                [
                    (SELECT, [number]),
                    (add, [number, "new"]),
                    (SELECT, [number]),
                    (add, [number + 1, "x"]),
                ],
                then_commit=True,
            )
            assert not connection.connection.info.transaction_status, "idle: it is committed"
        assert found == [None, (number,), ("new",), (number + 1,)]


def test_execute_all__an_error_stores_nothing_and_spoils_no_later_message() -> None:
    add = f"INSERT INTO {TABLE} SELECT CAST($1 AS bigint), 'new' RETURNING id"
    with pytest.raises(IntegrityError), transaction.atomic():
        execute_all([(add, [2]), (add, [1]), (add, [3])], then_commit=True)
    assert execute_all([(SELECT, [1]), (SELECT, [2]), (add, [3])]) == [("one",), None, (3,)]


def test_execute__has_sent_nothing_before_the_connection_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulation switches to another process there, which must find nothing done yet."""
    execute(SELECT, [1])

    def ended(*_: object, **__: object) -> None:
        # The server does what it has got before it reads the end.
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(connection.connection, "wait", ended)
    with pytest.raises(KeyboardInterrupt):
        execute(f"INSERT INTO {TABLE} VALUES ($1, 'two') RETURNING id", [2], then_commit=True)
    connection.close()
    with transaction.atomic():
        run(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")  # after whatever is under way
        assert execute(SELECT, [2]) is None
