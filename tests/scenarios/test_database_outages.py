"""The database goes away, stands still or refuses to write while messages wait: nothing is lost.

Real workers, with 60 submits and 10 cancels in the broker. Every intent is recorded, every cancel
is done, and no intent has two orders at the exchange.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from celery.result import AsyncResult
from django.db import connection, connections

from backoffice.celery import app
from backoffice.local.postgres import PostgresServer
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Balance, ExchangeAccount
from orders.models import BookIdentity, ExchangeOrder, Order
from tests.harness.processes import ProcessFactory, database_url
from tests.harness.proxy import DatabaseProxy
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.steps import LIMIT_BUY, send, send_cancel, settle

pytestmark = pytest.mark.django_db(transaction=True)

SUBMITS, CANCELS, EARLIER = 60, 10, 12
PATIENT: dict[str, Any] = {**LIMIT_BUY, "quantity": "0.001", "place_within_seconds": 600}
QUICK_LIMITS = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
    "DATABASE_STATEMENT_TIMEOUT_MS": "2000",
    "DATABASE_ANSWER_TIMEOUT_SECONDS": "3",
}
Workers = Callable[..., None]


@pytest.fixture
def market(account: ExchangeAccount, simulator: Simulator, fast_timing: None) -> Simulator:
    control = simulator.control
    control.set_price("BTCUSDT", "60000")
    control.deposit("USDT", "1000000")
    control.limits(request_weight=1_000_000, orders_10s=100_000, orders_day=1_000_000)
    sync_instruments(account)
    return simulator


@pytest.fixture
def workers(market: Simulator, processes: ProcessFactory) -> Workers:
    """Start one worker for orders and one for the rest, as a deployment does."""

    def start(*, env: dict[str, str] | None = None, pool: str = "threads") -> None:
        options = ("--pool", pool, "--concurrency", "4")
        for name, queues in (("trader", "trading"), ("helper", "cancel,duties,sync")):
            processes.worker(name, queues=queues, options=options, env=env, wait=False)
        for child in processes.started:
            child.wait_until_ready()

    return start


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[DatabaseProxy]:
    made = DatabaseProxy(postgres)
    yield made
    made.close()


# -- the story -------------------------------------------------------------------------------------


def place_the_first() -> list[str]:
    """Return the orders to cancel later. Others are canceled now: all threads have a connection."""
    earlier = [f"earlier-{number}" for number in range(EARLIER)]
    intents = [f"first-{number}" for number in range(CANCELS)]
    for result in [send(intent_id, PATIENT) for intent_id in earlier + intents]:
        assert result.get(timeout=60)["status"] == "NEW"
    for result in [send_cancel(intent_id) for intent_id in earlier]:
        assert result.get(timeout=60)["status"] == "CANCELED"
    return intents


def send_everything(to_cancel: list[str]) -> list[AsyncResult[Any]]:
    sent = [send(f"waiting-{number}", PATIENT) for number in range(SUBMITS)]
    return sent + [send_cancel(intent_id) for intent_id in to_cancel]


def check_nothing_is_lost(
    simulator: Simulator, sent: list[AsyncResult[Any]], *, within: float = 60.0
) -> None:
    """Check our book and the exchange's, once every message has its answer."""
    until = monotonic() + within
    for result in sent:
        result.get(timeout=max(1.0, until - monotonic()))
    settle()
    statuses = dict(Order.objects.values_list("intent_id", "status"))
    assert {statuses.get(f"waiting-{number}") for number in range(SUBMITS)} == {"NEW"}
    assert {statuses.get(f"first-{number}") for number in range(CANCELS)} == {"CANCELED"}
    truth = simulator.control.truth()
    assert truth.accepted_total() == SUBMITS + CANCELS + EARLIER
    ids = ExchangeOrder.objects.values_list("client_order_id", flat=True)
    assert {truth.accepted(client_order_id) for client_order_id in ids} <= {0, 1}
    assert (
        sum(truth.accepted(client_order_id) for client_order_id in ids)
        == SUBMITS + CANCELS + EARLIER
    )
    app.send_task("exchanges.sync_balances", ("demo",), ignore_result=False).get(timeout=20)
    settle()
    reserved = Balance.objects.values_list("reserved", flat=True)
    wait_for(lambda: set(reserved.all()) == {Decimal(0)}, what="the reservations end at zero")


# -- outages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds", [pytest.param(2.0, id="2 s"), pytest.param(10.0, id="10 s", marks=pytest.mark.long)]
)
def test_database__stopped_and_started(
    seconds: float, market: Simulator, workers: Workers, postgres: PostgresServer
) -> None:
    workers()
    to_cancel = place_the_first()
    connections.close_all()
    postgres.stop()
    try:
        sent = send_everything(to_cancel)
        sleep(seconds)
    finally:
        postgres.start()
    check_nothing_is_lost(market, sent)


def test_database__merely_restarted(
    market: Simulator, workers: Workers, postgres: PostgresServer, processes: ProcessFactory
) -> None:
    """Not even one message of a thread is late: each looks at its connection first."""
    workers()
    to_cancel = place_the_first()
    connections.close_all()
    postgres.restart()
    sent = send_everything(to_cancel)
    check_nothing_is_lost(market, sent)
    for child in processes.started:
        assert "task_waits_for_database" not in child.output()


@pytest.mark.long
def test_database__stopped_under_the_default_pool(
    market: Simulator, workers: Workers, postgres: PostgresServer
) -> None:
    workers(pool="prefork")
    to_cancel = place_the_first()
    connections.close_all()
    postgres.stop()
    try:
        sent = send_everything(to_cancel)
        sleep(10)
    finally:
        postgres.start()
    check_nothing_is_lost(market, sent)


@pytest.mark.long
def test_database__stopped_while_orders_are_placed(
    market: Simulator, workers: Workers, postgres: PostgresServer
) -> None:
    """Some claims are committed, some answers are not recorded yet."""
    workers()
    to_cancel = place_the_first()
    sent = send_everything(to_cancel)
    wait_for(
        lambda: Order.objects.filter(intent_id__startswith="waiting").count() > 5,
        every=0.001,
        what="some orders are placed",
    )
    connections.close_all()
    postgres.crash()
    try:
        sleep(5)
    finally:
        postgres.start()
    check_nothing_is_lost(market, sent)


@pytest.mark.long
def test_database__stopped_and_the_workers_too(
    market: Simulator, workers: Workers, postgres: PostgresServer, processes: ProcessFactory
) -> None:
    """The workers end in time, and the next ones do their messages."""
    workers()
    to_cancel = place_the_first()
    connections.close_all()
    postgres.stop()
    try:
        sent = send_everything(to_cancel)
        wait_for(
            lambda: "task_waits_for_database" in processes.started[0].output(),
            what="the worker has noticed",
        )
        stopped_at = monotonic()
        for child in processes.started:
            child.stop(patience=30)
        assert monotonic() - stopped_at < 20
    finally:
        postgres.start()
    for child in processes.started:
        child.start()
    check_nothing_is_lost(market, sent)


def test_database__a_column_is_widened_under_the_workers(
    market: Simulator, workers: Workers, processes: ProcessFactory
) -> None:
    """A running worker survives a migration."""
    workers()
    to_cancel = place_the_first()
    try:
        widen(128)
        check_nothing_is_lost(market, send_everything(to_cancel))
    finally:
        widen(64)


def widen(length: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE orders_order ALTER COLUMN intent_id TYPE varchar({length})")


# -- a database that refuses or swallows -----------------------------------------------------------


@pytest.fixture
def read_only(postgres: PostgresServer) -> Iterator[Callable[[bool], None]]:
    """Switch the server to read-only and back, as a failover does."""

    def switch(on: bool) -> None:
        with postgres.connect() as own:
            own.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
            own.execute("SELECT pg_reload_conf()")

    yield switch
    with postgres.connect() as own:
        own.execute("ALTER SYSTEM RESET default_transaction_read_only")
        own.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    "seconds", [pytest.param(2.0, id="2 s"), pytest.param(8.0, id="8 s", marks=pytest.mark.long)]
)
def test_database__read_only(
    seconds: float, market: Simulator, workers: Workers, read_only: Callable[[bool], None]
) -> None:
    workers()
    to_cancel = place_the_first()
    read_only(True)
    wait_for(lambda: shown("default_transaction_read_only") == "on", what="it is read-only")
    sent = send_everything(to_cancel)
    sleep(seconds)
    read_only(False)
    wait_for(lambda: shown("default_transaction_read_only") == "off", what="it may be written")
    check_nothing_is_lost(market, sent)


def shown(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


@pytest.mark.long
def test_database__swallowed(market: Simulator, workers: Workers, proxy: DatabaseProxy) -> None:
    name = database_url().rpartition("/")[2]
    workers(env={**QUICK_LIMITS, "DATABASE_URL": proxy.url(name)})
    to_cancel = place_the_first()
    proxy.swallow()
    sent = send_everything(to_cancel)
    sleep(10)
    proxy.pass_on()
    check_nothing_is_lost(market, sent)


@pytest.mark.long
def test_database__refuses_more_clients(
    market: Simulator, workers: Workers, postgres: PostgresServer
) -> None:
    workers()
    to_cancel = place_the_first()
    name = database_url().rpartition("/")[2]
    with postgres.connect() as own:
        own.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        own.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )
    connections.close_all()
    sent = send_everything(to_cancel)
    sleep(4)
    with postgres.connect() as own:
        own.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    check_nothing_is_lost(market, sent)


# -- failover --------------------------------------------------------------------------------------

LOST = 20


def copy_of(postgres: PostgresServer) -> Path:
    """Copy the files of the stopped server: a replica that receives nothing from now on."""
    replica = postgres.directory / "replica"
    shutil.rmtree(replica, ignore_errors=True)
    subprocess.run(["cp", "-a", str(postgres.data), str(replica)], check=True)
    return replica


def promote(postgres: PostgresServer, replica: Path) -> None:
    """Let the replica take the place of the stopped server."""
    shutil.rmtree(postgres.data)
    replica.rename(postgres.data)


@pytest.mark.long
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_database__fails_over_to_a_replica_that_lost_the_last_commits(
    market: Simulator, workers: Workers, postgres: PostgresServer, pool: str
) -> None:
    """20 orders, 4 cancels and all that they recorded are lost. Then 60 submits (the 20 among
    them) and 10 cancels wait while the database is away.
    """
    workers(pool=pool)
    to_cancel = place_the_first()
    connections.close_all()
    postgres.stop()
    replica = copy_of(postgres)
    postgres.start()
    lost = [send(f"waiting-{number}", PATIENT) for number in range(LOST)]
    assert {result.get(timeout=60)["status"] for result in lost} == {"NEW"}
    for result in [send_cancel(intent_id) for intent_id in to_cancel[:4]]:
        assert result.get(timeout=60)["status"] == "CANCELED"
    connections.close_all()
    postgres.stop()
    try:
        sent = send_everything(to_cancel)
        sleep(5)
        promote(postgres, replica)
    finally:
        postgres.start()
    check_nothing_is_lost(market, sent, within=120)
    assert BookIdentity.objects.get().distrusted_at is not None
