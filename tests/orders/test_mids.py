"""Check for which symbols the mids are read, and how often."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from exchanges import clock
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Environment, ExchangeAccount, MidPrice
from orders import mids, tasks
from orders.mids import symbols_in_use
from orders.models import Order, Status
from tests.benchmarks.many_orders import fill_book
from tests.factories import ExchangeAccountFactory, OrderFactory
from tests.fakes import FakeExchange

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(days=3)


def in_use(environment: str = Environment.SIMULATOR) -> list[str]:
    return sorted(symbols_in_use("binance", environment))


def test_symbols_in_use__are_those_of_open_and_of_recent_orders() -> None:
    now = clock.now()
    account, other = ExchangeAccountFactory(name="demo"), ExchangeAccountFactory(name="other")
    closed = {"account": account, "status": Status.CANCELED}
    OrderFactory(account=account, symbol="OPENUSDT", status=Status.NEW, created_at=now - LONG_AGO)
    OrderFactory(
        account=other, symbol="PARTUSDT", status=Status.PARTIALLY_FILLED, created_at=now - LONG_AGO
    )
    OrderFactory(symbol="RECENTUSDT", created_at=now - timedelta(minutes=59), **closed)
    OrderFactory(symbol="OLDUSDT", created_at=now - timedelta(minutes=61), **closed)
    testnet = ExchangeAccountFactory(name="testnet", environment=Environment.TESTNET)
    OrderFactory(account=testnet, symbol="TESTUSDT", status=Status.NEW)
    assert in_use() == ["OPENUSDT", "PARTUSDT", "RECENTUSDT"]
    assert in_use(Environment.TESTNET) == ["TESTUSDT"]
    assert in_use(Environment.LIVE) == []


def test_symbols_in_use__a_busy_account_hides_no_other() -> None:
    now = clock.now()
    busy, quiet = ExchangeAccountFactory(name="busy"), ExchangeAccountFactory(name="quiet")
    for number in range(101):
        OrderFactory(
            account=busy,
            intent_id=f"i-{number}",
            status=Status.CANCELED,
            symbol="FIRSTUSDT" if number == 0 else "BTCUSDT",
            created_at=now - timedelta(seconds=101 - number),
        )
    OrderFactory(
        account=quiet,
        symbol="ETHUSDT",
        status=Status.CANCELED,
        created_at=now - timedelta(minutes=50),
    )
    assert in_use() == ["BTCUSDT", "ETHUSDT"]


@pytest.mark.long
def test_symbols_in_use__reads_few_rows_of_a_large_book() -> None:
    fill_book(20_000)
    Order.objects.update(created_at=clock.now())  # all of them are recent
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE orders_order")
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {mids._SYMBOLS}",
            ["binance", "simulator", clock.now() - timedelta(hours=1)],
        )
        (plan,) = cursor.fetchone() or ("[]",)
    rows = json.loads(plan) if isinstance(plan, str) else plan
    node = rows[0]["Plan"]
    touched = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    assert len(in_use()) > 100
    assert touched < 1500  # the table has more than 20,000 rows in as many pages
    assert "Seq Scan" not in {name for name, table in scans(node) if table == "orders_order"}


def scans(node: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the kind and the table of each scan of the plan."""
    found = [(node["Node Type"], node.get("Relation Name", ""))]
    for child in node.get("Plans", ()):
        found += scans(child)
    return found


def test_refresh_mids__reads_each_environment_in_use(exchange: FakeExchange, eager: None) -> None:
    for name in ("one", "two"):
        account = ExchangeAccountFactory(name=name)
        OrderFactory(account=account, symbol="BTCUSDT", status=Status.NEW)
    ExchangeAccountFactory(name="idle", environment=Environment.TESTNET)
    sync_instruments(account)
    assert tasks.refresh_mids() == {"environments": 2}
    assert len(exchange.calls_of("fetch_bids_and_asks")) == 1
    (mid,) = MidPrice.objects.all()
    assert (mid.environment, mid.symbol) == ("simulator", "BTCUSDT")


def test_refresh_mids__asks_nothing_while_nobody_trades(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    assert mids.refresh_mids(demo) == {"symbols": 0, "stored": 0}
    assert exchange.calls == []
