"""Check that every performance switch is on, and that an order's own commits wait for the disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connection, transaction

from backoffice import tuning
from backoffice.celery import app
from backoffice.tuning import SWITCHES
from exchanges.db.commits import commit_asynchronously
from exchanges.models import Environment, ExchangeAccount
from orders.models import Order
from orders.recording.apply import apply_report
from tests.fakes import FakeExchange
from tests.harness.processes import ROOT, ProcessFactory
from tests.harness.redis import TestRedis
from tests.steps import attempt_of, submit

pytestmark = pytest.mark.django_db(transaction=True)

PROBE = "tests.backoffice.tuning_probe"
OPTIONS = ("--pool", "threads", "--concurrency", "1", "-I", PROBE)


def two_reports(processes: ProcessFactory, **env: str) -> list[dict[str, Any]]:
    """Let one worker report its tuning in two tasks, one after the other."""
    processes.worker(options=OPTIONS, env=env, fresh=True)
    return [
        app.send_task("tests.report_tuning", queue="sync", ignore_result=False).get(timeout=30)
        for _ in range(2)
    ]


def test_worker__runs_with_every_switch_on(processes: ProcessFactory) -> None:
    first, again = two_reports(processes)
    assert first["transport"] == "kombu.transport.redis.Transport"
    assert first["client_library_loaded"]
    assert first["database_backend"] == again["database_backend"], "a task got a new connection"


def test_worker__runs_with_every_switch_off(processes: ProcessFactory) -> None:
    first, again = two_reports(processes, TUNING_OFF=",".join(SWITCHES))
    assert not first["client_library_loaded"]
    assert first["database_backend"] != again["database_backend"]


def test_turn_off__names_an_unknown_switch() -> None:
    with pytest.raises(ImproperlyConfigured, match="TUNING_OFF names 'magic', but the switches"):
        tuning.turn_off(["kept_connections", "magic"])
    assert tuning.is_on("kept_connections")


def test_switches__name_files_that_exist() -> None:
    for switch in SWITCHES.values():
        assert all((ROOT / file).is_file() for file in switch.where.split(", ")), switch


def test_connection__outlives_a_request() -> None:
    connection.close()
    connection.ensure_connection()
    kept = connection.connection
    close_old_connections()  # as Django does after each request
    assert connection.connection is kept
    assert connection.settings_dict["CONN_HEALTH_CHECKS"]


# Note at each commit whether it waits for the disk.
WATCH = """
CREATE TABLE noted_commits (name text, waits text);
CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO noted_commits
    VALUES (TG_OP || ' ' || TG_TABLE_NAME, current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
"""
UNWATCH = "DROP FUNCTION note_commit CASCADE; DROP TABLE noted_commits"
WATCHED = (
    "orders_order",
    "orders_exchangeorder",
    "orders_orderevent",
    "orders_ordernotice",
    "exchanges_balance",
)
DURABLE = (
    "INSERT orders_order",
    "UPDATE orders_order",
    "INSERT orders_exchangeorder",
    "UPDATE orders_exchangeorder",
    "INSERT orders_orderevent",
    "INSERT orders_ordernotice",
    "UPDATE exchanges_balance",  # the claim's reservation
)


@pytest.fixture
def commits(transactional_db: None, redis_server: TestRedis) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(WATCH)
        for table in WATCHED:
            cursor.execute(
                f"CREATE CONSTRAINT TRIGGER note_commit AFTER INSERT OR UPDATE ON {table}"
                " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_commit()"
            )
    yield
    with connection.cursor() as cursor:
        cursor.execute(UNWATCH)


def noted_commits() -> dict[str, set[str]]:
    """Return the settings of `synchronous_commit` under which each kind of write was committed."""
    found = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, waits FROM noted_commits")
        for name, waits in cursor.fetchall():
            found[name].add(waits)
    return found


@pytest.fixture
def messages(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    settings.ORDER_EVENTS_TASK = "bot.order_changed"
    sent: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, **_: sent.append(name))
    return sent


def test_commits__wait_for_the_disk_wherever_an_order_depends_on_them(
    commits: None, messages: list[str]
) -> None:
    ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    with FakeExchange().installed() as exchange:
        attempt = attempt_of(submit())
        exchange.fill(attempt.client_order_id)
        gateway = exchange.gateway(attempt.order.account)
        apply_report(
            attempt,
            gateway.fetch_order(symbol="BTCUSDT", client_order_id=attempt.client_order_id),
        )
    assert Order.objects.get().status == "FILLED"
    assert len(messages) == 2
    found = noted_commits()
    assert {name: found.pop(name) for name in DURABLE} == {name: {"on"} for name in DURABLE}
    # Losing these in a crash costs a query to the exchange, or a message that is sent twice.
    assert found.pop("INSERT exchanges_balance") == {"off"}
    assert "off" in found.pop("UPDATE orders_ordernotice")
    assert not found


def test_commits__of_balances_wait_too_if_the_switch_is_off(settings: Any, db: None) -> None:
    settings.UNFLUSHED_COMMITS = False
    with transaction.atomic(), connection.cursor() as cursor:
        commit_asynchronously()
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
