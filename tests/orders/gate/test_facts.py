"""Test how the gate's one statement finds its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection, transaction

from exchanges.db import prepared
from exchanges.models import ExchangeAccount
from orders.gate import facts
from orders.models import ExchangeOrder, Order
from tests.factories import ExchangeOrderFactory, OrderFactory
from tests.steps import as_a_restore, make_intent

ORDERS = 2500


@pytest.mark.long
@pytest.mark.django_db
def test_read_facts__reads_no_more_of_a_book_that_was_never_analyzed(
    demo: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new installation has no statistics until autovacuum's first ANALYZE.

    So a statement that was planned over an empty table stays as it is while the table grows.
    """
    sql, given = statement_for(demo, monkeypatch)
    with transaction.atomic(), connection.cursor() as cursor:
        forget_statistics()
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE facts AS {sql}")
        assert buffers_of(given) > 0
        rows = (OrderFactory.build(account=demo, intent_id=f"i-{n}") for n in range(ORDERS))
        orders = Order.objects.bulk_create(rows)
        ExchangeOrder.objects.bulk_create(ExchangeOrderFactory.build(order=o) for o in orders)
        found = buffers_of(given)
        cursor.execute("DEALLOCATE facts")
    assert found < 60


def forget_statistics() -> None:
    """Empty the tables of orders as a new installation has them. A roll-back undoes it.

    Other tests ran before, so autovacuum may have analyzed them while they were empty.
    """
    with as_a_restore(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE orders_order CASCADE")
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = 'orders_order'::regclass")
        assert cursor.fetchone() == (-1,)


def statement_for(account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Return the statement of `read_facts` and its parameters as SQL."""
    ran: list[tuple[str, Sequence[Any]]] = []

    def execute_all(statements: Sequence[prepared.Statement]) -> list[prepared.Row]:
        ran.extend(statements)
        return []

    monkeypatch.setattr(prepared, "execute_all", execute_all)
    noted = [f"{account.pk}/bo-noted{number}-1" for number in range(8)]
    intent = make_intent("i-new", account=account.name)
    facts.facts_for_all([(intent, account.environment, noted)])
    [(sql, values)] = ran
    return sql, ", ".join(f"'{value}'" for value in values)


def buffers_of(given: str) -> int:
    """Return how many buffers the prepared statement touches."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE facts({given})")
        (found,) = cursor.fetchone() or ("[]",)
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])
