"""The stream of bells, on a real web server and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic

import psycopg
import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import Client

from exchanges.models import TradingHalt
from orders.models import Order
from tests.factories import OrderEventFactory, OrderFactory, ReconciliationBreakFactory
from tests.harness.processes import ProcessFactory, database_url
from tests.harness.stack import Stack
from tests.harness.waiting import wait_for
from tests.harness.web import Stream, Web, session_of

pytestmark = pytest.mark.django_db(transaction=True)

PAGES = 200


@pytest.fixture
def web(processes: ProcessFactory) -> Web:
    return Web(processes)


@pytest.fixture
def boss(transactional_db: None) -> User:
    return User.objects.create_superuser("boss")


@pytest.fixture
def stream(web: Web, boss: User) -> Iterator[Stream]:
    with Stream(web.port, session_of(boss)) as stream:
        stream.expect("listening")
        stream.expect("beat")
        yield stream


@pytest.fixture
def order(transactional_db: None) -> Order:
    order: Order = OrderFactory.create()
    return order


def web_connections(postgres_database: psycopg.Connection) -> list[str]:
    rows = postgres_database.execute(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ).fetchall()
    return [str(name) for (name,) in rows]


def test_stream__rings_once_a_change_has_committed(stream: Stream, order: Order) -> None:
    with transaction.atomic():
        OrderEventFactory(order=order)
        assert stream.count("orders") == 0
    committed_at = monotonic()
    stream.expect("orders")
    assert monotonic() - committed_at < 1.0


def test_stream__rings_for_breaks_and_halts(stream: Stream, order: Order) -> None:
    ReconciliationBreakFactory(account=order.account)
    stream.expect("breaks")
    before = stream.count("accounts")
    TradingHalt.objects.update(is_halted=True)
    stream.expect("accounts", times=before + 1)


def test_stream__rings_rarely_in_a_burst_and_after_its_end(stream: Stream, order: Order) -> None:
    # The check of sessions after the first beat and the bell of the order's new account hold the
    # next one back for a moment, which a fixed number of events may not outlast.
    stream.expect("accounts")
    started_at, number = monotonic(), 0
    while number < 300 or monotonic() - started_at < 1.0:
        OrderEventFactory(order=order)
        number += 1
    ended_at, rung = monotonic(), stream.count("orders")
    assert 1 <= rung <= 2 + 5 * (ended_at - started_at)
    stream.expect("orders", times=rung + 1, timeout=1.0)  # the end of the burst rings, too


def test_streams__of_many_pages_share_one_connection(
    web: Web, boss: User, order: Order, stack: Stack
) -> None:
    key = session_of(boss)
    with (
        ExitStack() as pages,
        stack.postgres.connect(database_url().rpartition("/")[2]) as database,
    ):
        streams = [pages.enter_context(Stream(web.port, key)) for _ in range(PAGES)]
        for stream in streams:
            stream.expect("beat", timeout=60)
        assert web_connections(database).count("desk-bell") == 1
        before = len(web_connections(database))
        OrderEventFactory(order=order)
        committed_at = monotonic()
        for stream in streams:
            stream.expect("orders")
        assert monotonic() - committed_at < 1.0
        # The pool of 8, the listener, and those of this process.
        assert before <= 8 + 1 + 3
        page = requests.get(
            f"{web.url}/admin/", cookies={settings.SESSION_COOKIE_NAME: key}, timeout=10
        )
        assert page.status_code == 200


def test_stream__ends_with_its_session(web: Web, boss: User) -> None:
    keys = [session_of(boss), session_of(boss)]
    with Stream(web.port, keys[0]) as leaving, Stream(web.port, keys[1]) as staying:
        leaving.expect("listening")
        client = Client()
        client.cookies[settings.SESSION_COOKIE_NAME] = keys[0]
        client.post("/admin/logout/")
        leaving.expect("ended", timeout=10)
        staying.expect("beat", times=3)
        assert staying.count("ended") == 0


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!x"}])
def test_stream__ends_when_its_person_may_no_longer_sign_in(
    stream: Stream, boss: User, change: dict[str, object]
) -> None:
    User.objects.filter(pk=boss.pk).update(**change)
    stream.expect("ended", timeout=10)


def test_stream__is_for_staff_only(web: Web, boss: User) -> None:
    stranger = User.objects.create_user("stranger")
    for key in ("abcdefghijklmnopqrstuvwxyz012345", session_of(stranger)):
        with Stream(web.port, key) as stream:
            wait_for(stream.text, what="an answer")
            assert stream.text().startswith("HTTP/1.1 204")


def test_stream__says_that_the_database_is_lost_and_found(
    stream: Stream, stack: Stack, boss: User
) -> None:
    connections.close_all()
    stack.postgres.stop()
    try:
        stream.expect("lost")
    finally:
        stack.postgres.start()
    stream.expect("listening", times=2)


def test_stream__is_refused_where_the_server_cannot_keep_it(client: Client, boss: User) -> None:
    client.force_login(boss)
    assert client.get("/admin/live/").status_code == 204
    assert 'id="desk-live"' not in client.get("/admin/").content.decode()
