"""Sessions are bounded: nothing waits for the database without end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic
from typing import Any

import psycopg
import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, OperationalError, ProgrammingError, connection, connections
from pytest_django import DjangoDbBlocker

from backoffice.databases import database_settings
from backoffice.local.postgres import PostgresServer
from backoffice.postgres.base import DatabaseWrapper
from backoffice.postgres.sessions import SessionLimits
from exchanges.models import ExchangeAccount
from orders.db_retry import is_database_away
from tests.harness.processes import ChildProcess, ProcessFactory, database_url
from tests.harness.proxy import DatabaseProxy
from tests.harness.web import Web, session_of

QUICK = SessionLimits(connect_seconds=2, statement_ms=300, lock_ms=200, answer_seconds=0.8)


def wrapper(url: str, limits: SessionLimits = QUICK) -> DatabaseWrapper:
    """Return a connection of its own, as Django makes them."""
    defaults: dict[str, Any] = {
        "AUTOCOMMIT": True,
        "ATOMIC_REQUESTS": False,
        "TIME_ZONE": None,
        "TEST": {},
    }
    return DatabaseWrapper({**defaults, **database_settings(url, limits)}, alias="other")


@pytest.fixture(autouse=True)
def _may_connect(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():  # these sessions are no test database's
        yield


@pytest.fixture
def own(postgres: PostgresServer) -> Iterator[DatabaseWrapper]:
    made = wrapper(postgres.url("postgres"))
    connections[made.alias] = made  # a schema editor finds it by its name
    yield made
    del connections[made.alias]
    made.close()


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[DatabaseProxy]:
    made = DatabaseProxy(postgres)
    yield made
    made.close()


@pytest.fixture
def distant(proxy: DatabaseProxy) -> Iterator[DatabaseWrapper]:
    made = wrapper(proxy.url("postgres"))
    yield made
    proxy.pass_on()
    made.close()


def ask(own: DatabaseWrapper, sql: str) -> str:
    with own.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0])


# -- the settings ----------------------------------------------------------------------------------


def test_limits__have_sound_defaults() -> None:
    assert SessionLimits.from_env({}) == SessionLimits()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_CONNECT_TIMEOUT_SECONDS", "0"),  # libpq would wait without end
        ("DATABASE_CONNECT_TIMEOUT_SECONDS", "1"),
        ("DATABASE_STATEMENT_TIMEOUT_MS", "15s"),
        ("DATABASE_STATEMENT_TIMEOUT_MS", "-1"),
        ("DATABASE_LOCK_TIMEOUT_MS", "5_000"),
        ("DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_MS", "99999999999"),
        ("DATABASE_TCP_USER_TIMEOUT_MS", "1.5"),
        ("DATABASE_ANSWER_TIMEOUT_SECONDS", "soon"),
        ("DATABASE_ANSWER_TIMEOUT_SECONDS", "nan"),
        ("DATABASE_ANSWER_TIMEOUT_SECONDS", "15"),  # the statement may take as long
        ("DATABASE_POOL_SIZE", "0"),
    ],
)
def test_limits__a_bad_value_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        SessionLimits.from_env({name: text})


def test_limits__the_answer_may_take_longer_than_the_statement() -> None:
    assert SessionLimits.from_env({"DATABASE_STATEMENT_TIMEOUT_MS": "60000"}).answer_seconds == 65
    assert SessionLimits.from_env({"DATABASE_STATEMENT_TIMEOUT_MS": "0"}).answer_seconds == 0


def test_settings__start_up_options_stay_free_for_a_connection_pooler(own: DatabaseWrapper) -> None:
    params = own.get_connection_params()
    assert "options" not in params
    assert params["connect_timeout"] == 2
    assert params["tcp_user_timeout"] == 10_000


# -- a session's limits ----------------------------------------------------------------------------


def test_session__has_every_limit(postgres: PostgresServer) -> None:
    own = wrapper(postgres.url("postgres"), SessionLimits())
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    assert [ask(own, f"SHOW {name}") for name in names] == ["15s", "5s", "10s"]
    assert ask(own, "SHOW synchronous_commit") == "on"
    own.close()


def test_session__keeps_its_limits_after_a_rollback(own: DatabaseWrapper) -> None:
    own.ensure_connection()
    own.set_autocommit(False)
    own.rollback()
    assert ask(own, "SHOW statement_timeout") == "300ms"


def test_session__a_slow_statement_ends(own: DatabaseWrapper) -> None:
    with pytest.raises(OperationalError, match="statement timeout"):
        ask(own, "SELECT pg_sleep(5)")


def test_session__a_wait_for_a_lock_ends(own: DatabaseWrapper, postgres: PostgresServer) -> None:
    with postgres.connect() as other, other.transaction():
        other.execute("LOCK TABLE pg_description IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="lock timeout"):
            ask(own, "SELECT count(*) FROM pg_description")


def test_session__that_stands_still_in_a_transaction_ends(postgres: PostgresServer) -> None:
    """A worker that is stopped inside a claim holds its locks for seconds only."""
    limits = replace(QUICK, idle_in_transaction_ms=300)
    stopped = wrapper(postgres.url("postgres"), limits)
    stopped.ensure_connection()
    stopped.set_autocommit(False)
    with stopped.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_description IN ACCESS EXCLUSIVE MODE")
    with postgres.connect() as other:
        other.execute("SET lock_timeout = '5s'")
        assert other.execute("SELECT count(*) FROM pg_description").fetchone() is not None
    with pytest.raises(Error, match="idle-in-transaction timeout") as ended:
        ask(stopped, "SELECT 1")
    assert is_database_away(ended.value)
    stopped.close()


@pytest.mark.long
def test_session__a_migration_may_take_long(own: DatabaseWrapper) -> None:
    with own.schema_editor(atomic=True) as editor:
        editor.execute("SELECT pg_sleep(1)")  # longer than a statement and than an answer may take
        assert ask(own, "SHOW lock_timeout") == "200ms"
    assert ask(own, "SHOW statement_timeout") == "300ms"
    assert own.connection.answer_seconds == 0.8


def test_session__a_failed_migration_leaves_the_limits(own: DatabaseWrapper) -> None:
    with (
        pytest.raises(ProgrammingError, match="no_such_table"),
        own.schema_editor(atomic=True) as editor,
    ):
        editor.execute("ALTER TABLE no_such_table ADD COLUMN x int")
    assert ask(own, "SHOW statement_timeout") == "300ms"


# -- a database that swallows packets --------------------------------------------------------------


def test_answer__that_does_not_come_is_given_up(
    distant: DatabaseWrapper, proxy: DatabaseProxy
) -> None:
    assert ask(distant, "SELECT 1") == "1"
    own = distant.connection
    proxy.swallow()
    asked_at = monotonic()
    with pytest.raises(OperationalError, match=r"did not answer within 0\.8 s"):
        ask(distant, "SELECT 1")
    assert 0.7 < monotonic() - asked_at < 3
    assert own.closed
    proxy.pass_on()
    distant.close()
    assert ask(distant, "SELECT 2") == "2"


@pytest.mark.long
def test_connect__that_is_not_answered_is_given_up(
    distant: DatabaseWrapper, proxy: DatabaseProxy
) -> None:
    proxy.swallow()
    asked_at = monotonic()
    with pytest.raises(OperationalError, match="timeout"):
        distant.ensure_connection()
    assert monotonic() - asked_at < 6


# -- an idle connection ----------------------------------------------------------------------------


def end_session(postgres: PostgresServer, own: DatabaseWrapper) -> None:
    pid = own.connection.info.backend_pid
    with postgres.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_idle_connection__that_was_cut_is_dropped_before_it_is_used(
    own: DatabaseWrapper, postgres: PostgresServer
) -> None:
    assert ask(own, "SELECT 1") == "1"
    end_session(postgres, own)
    own.close_if_stale()
    assert ask(own, "SELECT 2") == "2"


def test_idle_connection__that_lives_is_kept_without_a_question(own: DatabaseWrapper) -> None:
    own.ensure_connection()
    kept, answered_at = own.connection, own.connection.answered_at
    own.close_if_stale()
    assert own.connection is kept
    assert own.connection.answered_at == answered_at


def test_idle_connection__that_was_idle_for_long_is_asked(
    distant: DatabaseWrapper, proxy: DatabaseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backoffice.postgres.base.CHECK_AFTER_IDLE_SECONDS", 0)
    monkeypatch.setattr("backoffice.postgres.base._CHECK_WITHIN_SECONDS", 0.3)
    distant.ensure_connection()
    proxy.swallow()
    distant.close_if_stale()
    proxy.pass_on()
    assert ask(distant, "SELECT 2") == "2"


@pytest.mark.django_db
def test_idle_connection__inside_a_transaction_is_left_alone() -> None:
    own = connection.connection
    connection.close_if_stale()  # type: ignore[attr-defined]
    assert connection.connection is own
    assert isinstance(own, psycopg.Connection)


# -- too many clients ------------------------------------------------------------------------------

TAKES_ALL = """
import threading, time, django
django.setup()
from django.db import Error, connection

taken, refused = [], threading.Event()

def take():
    try:
        connection.ensure_connection()
        taken.append(connection)
    except Error as error:
        print(error, flush=True)
        refused.set()
        return
    time.sleep(60)

while not refused.is_set():
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(0.03)
print("full", len(taken), flush=True)
time.sleep(60)
"""


@pytest.fixture
def full_database(processes: ProcessFactory) -> ChildProcess:
    """A process of ours that has taken every connection that it gets."""
    return processes.program("crowd", "-c", TAKES_ALL, ready="full ")


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_halt_trading__gets_through_with_too_many_clients(
    account: ExchangeAccount, full_database: ChildProcess
) -> None:
    assert "reserved for halts" in full_database.output()
    began_at = monotonic()
    argv = ["manage.py", "halt_trading", "--account", account.name, "--reason", "drill"]
    environment = {**os.environ, "DATABASE_URL": database_url()}
    subprocess.run([sys.executable, *argv], check=True, env=environment, timeout=30)
    assert monotonic() - began_at < 10, "most of it is the start of Python"
    account.refresh_from_db()
    assert account.trading_state == "HALTED"
    argv = ["manage.py", "resume_trading", "--account", account.name, "--reason", "drill"]
    refused = subprocess.run([sys.executable, *argv], check=False, env=environment, timeout=30)
    assert refused.returncode == 1


# -- a halt while the database stands still --------------------------------------------------------

#: Shorter than the usual ones, so that the test is.
BRIEF = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
    "DATABASE_STATEMENT_TIMEOUT_MS": "1500",
    "DATABASE_ANSWER_TIMEOUT_SECONDS": "2",
}
ADVICE = "stop the workers and the listener, or disable the API key at the exchange"


@pytest.fixture
def swallowing(proxy: DatabaseProxy) -> Iterator[dict[str, str]]:
    """The environment of a process whose database the proxy may swallow."""
    yield {**BRIEF, "DATABASE_URL": proxy.url(database_url().rpartition("/")[2])}
    proxy.pass_on()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_halt_trading__says_what_to_do_if_the_database_stands_still(
    account: ExchangeAccount, proxy: DatabaseProxy, swallowing: dict[str, str]
) -> None:
    proxy.swallow()
    argv = ["manage.py", "halt_trading", "--account", account.name, "--reason", "drill"]
    given = {**os.environ, **swallowing}
    halt = subprocess.run(
        [sys.executable, *argv], check=False, env=given, timeout=60, capture_output=True, text=True
    )
    assert halt.returncode == 1
    (line,) = halt.stderr.strip().splitlines()
    assert "the database does not answer" in line
    assert line.endswith(ADVICE)


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_stop_page__says_what_to_do_if_the_database_stands_still(
    account: ExchangeAccount,
    proxy: DatabaseProxy,
    swallowing: dict[str, str],
    processes: ProcessFactory,
) -> None:
    web = Web(processes, swallowing)
    boss = User.objects.create_superuser("boss", password="not used")
    page = f"{web.url}/admin/stop/?account={account.name}"
    person = requests.Session()
    person.cookies[settings.SESSION_COOKIE_NAME] = session_of(boss)
    token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', person.get(page, timeout=30).text)
    assert token is not None
    given = {"account": account.name, "reason": "drill", "csrfmiddlewaretoken": token[1]}
    for cookie in person.cookies:
        cookie.secure = False  # this web process is plain HTTP
    proxy.swallow()
    answer = person.post(page, data=given, timeout=60)
    assert answer.status_code == 503
    assert f"{ADVICE}." in answer.text
    assert "not known whether your last action was recorded" in answer.text
