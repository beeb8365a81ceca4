"""The database goes away, stands still or refuses to write while messages wait: nothing is lost.

Real workers, with 60 submits and 10 cancels in the broker. Every intent is recorded, every cancel
is done, and no intent has two orders at the exchange.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from django.db import connection, connections

from backoffice.local.postgres import PostgresServer
from orders.models import BookIdentity, Order
from tests.harness.processes import ProcessFactory, database_url
from tests.harness.proxy import DatabaseProxy
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.steps import send, send_cancel
from tests.scenarios.waiting_messages import (
    PATIENT,
    QUICK_LIMITS,
    Workers,
    check_nothing_is_lost,
    place_the_first,
    send_everything,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[DatabaseProxy]:
    made = DatabaseProxy(postgres)
    yield made
    made.close()


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


@pytest.mark.core
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


def test_database__a_table_is_not_there_yet(
    market: Simulator, workers: Workers, processes: ProcessFactory
) -> None:
    """A restore makes its tables one after the other, and new code may begin before `migrate`."""
    workers()
    to_cancel = place_the_first()
    name = Order._meta.db_table
    try:
        rename(name, "not_yet")
        sent = send_everything(to_cancel)
        wait_for(
            lambda: "task_waits_for_database" in processes.started[0].output(),
            what="a worker has met the missing table",
        )
    finally:
        rename("not_yet", name)
    check_nothing_is_lost(market, sent)


def rename(name: str, to: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{name}" RENAME TO "{to}"')


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
