"""Check the chains of writes that placing an order sends: how many, and that indexes serve them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from exchanges import clock
from exchanges.models import Environment, ExchangeAccount
from orders import services
from orders.intents import parse_intent
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis

pytestmark = pytest.mark.django_db(transaction=True)


def test_write_chains__find_every_row_by_an_index(redis_server: TestRedis) -> None:
    ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    chains: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("WITH write_0"):
            chains.append(sql)
        return execute(sql, *rest)

    given = {"intent_id": "i-1", "account": "demo", "symbol": "BTCUSDT", "side": "BUY"}
    amounts = {"order_type": "LIMIT", "quantity": "0.01", "price": "50000"}
    with FakeExchange().installed(), connection.execute_wrapper(watch):
        order = services.submit_order(parse_intent({**given, **amounts}, now=clock.now()))
    assert order.status == "NEW"
    assert order.quantity == Decimal("0.01")
    claim, *others = chains
    assert 'INSERT INTO "orders_exchangeorder"' in claim
    assert any('UPDATE "orders_order"' in chain for chain in others)
    for chain in chains:
        assert "Seq Scan" not in explained(chain)


def explained(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # the tables are too small for an index
        try:
            cursor.execute(f"EXPLAIN (GENERIC_PLAN) {sql}")
            return "\n".join(line for (line,) in cursor.fetchall())
        finally:
            cursor.execute("RESET enable_seqscan")
