"""Keep the lists fast over a million orders and three million fills."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.benchmarks.desk import best_ms
from tests.benchmarks.many_orders import LIST, PAGES, analyze, fill_book, filters


@pytest.mark.long
@pytest.mark.django_db
def test_lists__take_the_same_queries_for_every_filter_and_read_by_indexes(boss: Client) -> None:
    fill_book(3_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for name, query in filters().items():
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(LIST, query).status_code == 200, name
            statements = [one["sql"] for one in queries]
        assert len(statements) <= 17, name
        assert not [
            sql
            for sql in statements
            if "COUNT(" in sql
            and 'FROM "orders_order"' in sql
            and '"orders_order"."status" IN' not in sql
        ], name
    served = {
        "open": {"order_open", "order_newest"},
        "unresolved": {"order_waiting"},
        "cancel_wished": {"order_open", "order_waiting"},
        "held": {"order_waiting"},
        "by hand": {"order_unique_intent"},
        "DENIED": {"order_refused"},
        "external": {"order_external"},
        "account": {"order_account_newest", "order_newest"},
        "deep page": {"order_newest"},
    }
    for name, indexes in served.items():
        with CaptureQueriesContext(connection) as queries:
            boss.get(LIST, filters()[name])
            [page] = [one["sql"] for one in queries if '"orders_order"."intent_id"' in one["sql"]]
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {page}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            cursor.execute("SET LOCAL enable_seqscan = on")
        assert any(index in plan for index in indexes), (name, plan)


@pytest.fixture
def full_book(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    fill_book(1_000_000)
    analyze()
    return client


@pytest.mark.long
def test_lists__answer_every_filter_over_a_million_orders(full_book: Client) -> None:
    figures = {name: best_ms(full_book, LIST, query) for name, query in filters().items()}
    first = {"orders": best_ms(full_book, LIST, {})}
    first |= {name: best_ms(full_book, address, {}) for name, address in PAGES.items()}
    # The times are the machine's. The targets: 150 ms for a first page, 400 ms for any filter.
    print({name: round(ms) for name, ms in (first | figures).items()})
