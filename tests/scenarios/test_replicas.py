"""PostgreSQL fails over to a streaming replica while messages wait and others are under way.

An asynchronous replica lacks the last commits, and a synchronous one lacks nothing. Either way each
intent is recorded or resolved, and has at most one order at the exchange.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, connections

from backoffice.celery import app
from backoffice.databases import database_settings
from backoffice.local.postgres import PostgresServer
from orders.models import BookIdentity, ExchangeOrder, Order
from tests.harness.processes import ProcessFactory
from tests.harness.replica import Pair
from tests.harness.simulator import Simulator
from tests.harness.stack import Stack
from tests.harness.waiting import wait_for
from tests.scenarios.steps import client_id, send, send_cancel, settle
from tests.scenarios.waiting_messages import (
    CANCELS,
    EARLIER,
    PATIENT,
    QUICK_LIMITS,
    SUBMITS,
    Workers,
    check_nothing_is_lost,
    place_the_first,
    send_everything,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

LOST = 20


@pytest.fixture
def pair(stack: Stack, postgres: PostgresServer, transactional_db: None) -> Iterator[Pair]:
    """Start a replica, and let this process's own connection follow a failover, too."""
    connection.close()
    made = Pair(postgres, stack.directory / "replica")
    usual = connection.settings_dict
    own = {**usual, **database_settings(made.url(usual["NAME"]))}
    try:
        made.start()
        connection.settings_dict = own
        yield made
    finally:
        connections.close_all()
        connection.settings_dict = usual
        made.close()


@pytest.fixture
def env(pair: Pair) -> dict[str, str]:
    """Return the workers' environment: the address names both servers."""
    return {**QUICK_LIMITS, "DATABASE_URL": pair.url(connection.settings_dict["NAME"])}


def wait_until_some_are_placed() -> None:
    wait_for(
        lambda: Order.objects.filter(intent_id__startswith="waiting").count() > LOST + 5,
        every=0.001,
        what="some orders are placed",
    )


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_failover__of_an_asynchronous_replica_that_lost_the_last_commits(
    market: Simulator, pair: Pair, env: dict[str, str], workers: Workers, pool: str
) -> None:
    """20 orders and 4 cancels are done and not replicated. All messages come once more, and the
    primary is killed while they are worked on.
    """
    workers(env=env, pool=pool)
    to_cancel = place_the_first()
    wait_for(pair.is_level, what="the replica has everything")
    pair.cut()
    lost = [send(f"waiting-{number}", PATIENT) for number in range(LOST)]
    assert {result.get(timeout=60)["status"] for result in lost} == {"NEW"}
    for result in [send_cancel(intent_id) for intent_id in to_cancel[:4]]:
        assert result.get(timeout=60)["status"] == "CANCELED"
    sent = send_everything(to_cancel)
    wait_until_some_are_placed()
    connections.close_all()
    pair.primary.kill()
    assert unknown_to(pair.replica, market) >= LOST
    pair.fail_over()
    for result in sent:
        result.get(timeout=120)
    app.send_task("orders.reconcile_account", ("demo",), ignore_result=False).get(timeout=60)
    settle()
    assert BookIdentity.objects.get().distrusted_at is not None
    intents = [f"waiting-{number}" for number in range(SUBMITS)]
    assert {status_of(intent_id) for intent_id in intents} == {"NEW"}
    # An order that was answered just before the failover is known without its intent's name. A bot
    # that repeats the intent gets this very order.
    again = [send(intent_id, PATIENT) for intent_id in intents]
    check_nothing_is_lost(market, again + sent, within=120)


def status_of(intent_id: str) -> str | None:
    """Return the status of the intent's order, which may have been recovered from the exchange."""
    names = (intent_id, f"recovered:{client_id(intent_id).split('-')[1]}")
    return Order.objects.filter(intent_id__in=names).values_list("status", flat=True).first()


def test_failover__of_a_synchronous_replica_loses_nothing(
    market: Simulator, pair: Pair, env: dict[str, str], workers: Workers
) -> None:
    """The replica knows each order that the exchange has, before any worker reaches it."""
    pair.make_synchronous()
    workers(env=env)
    to_cancel = place_the_first()
    sent = send_everything(to_cancel)
    wait_until_some_are_placed()
    connections.close_all()
    pair.to_replica.swallow()
    pair.primary.kill()
    pair.fail_over()
    assert unknown_to(pair.replica, market) == 0
    pair.to_replica.pass_on()
    check_nothing_is_lost(market, sent, within=120)


def test_synchronous_replica__while_it_is_cut_off_nothing_is_sent(
    market: Simulator, pair: Pair, env: dict[str, str], workers: Workers, processes: ProcessFactory
) -> None:
    """A claim that only the primary has is no claim yet: it would be lost with the primary."""
    pair.make_synchronous()
    workers(env=env)
    to_cancel = place_the_first()
    pair.cut()
    sent = send_everything(to_cancel)
    wait_for(
        lambda: any("task_waits_for_database" in child.output() for child in processes.started),
        what="a worker waits for the database",
    )
    assert market.control.truth().accepted_total() == CANCELS + EARLIER
    pair.link.pass_on()
    check_nothing_is_lost(market, sent, within=120)


def unknown_to(server: PostgresServer, market: Simulator) -> int:
    """Count the orders that the exchange has accepted and that this server's book lacks."""
    truth = market.control.truth()
    with server.connect(connection.settings_dict["NAME"]) as own:
        rows = own.execute(f"SELECT client_order_id FROM {ExchangeOrder._meta.db_table}")
        known = {client_order_id for (client_order_id,) in rows}
    return truth.accepted_total() - sum(truth.accepted(each) for each in known)
