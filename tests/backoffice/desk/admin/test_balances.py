"""Balances of the accounts."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from exchanges import clock
from exchanges.models import ExchangeAccount, LastPrice
from orders.models import Position
from tests.factories import BalanceFactory, InstrumentFactory

pytestmark = pytest.mark.django_db


def test_balance_list__shows_every_digit(boss: Client) -> None:
    BalanceFactory(free=Decimal("0.000000010000000000"), locked=Decimal("1E+3"))
    html = boss.get("/admin/exchanges/balance/").content.decode()
    assert ">0.00000001<" in html
    assert ">1000<" in html
    assert boss.get("/admin/exchanges/balance/add/").status_code == 403


def test_balance_list__values_each_asset_by_its_newest_price(
    boss: Client, demo: ExchangeAccount
) -> None:
    InstrumentFactory()
    InstrumentFactory(base_asset="BTC", quote_asset="EUR")
    BalanceFactory(account=demo, asset="USDT", free=Decimal(100))
    bitcoin = BalanceFactory(account=demo, asset="BTC", free=Decimal("0.4"), locked=Decimal("0.1"))
    unknown = BalanceFactory(account=demo, asset="XYZ", free=Decimal(7))
    now = clock.now()
    price = {"exchange": "binance", "environment": demo.environment, "symbol": "BTCUSDT"}
    LastPrice.objects.create(
        **price, price=Decimal(40_000), traded_at=now, asked_at=now - timedelta(hours=1)
    )
    Position.objects.create(
        account=demo,
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        last_price=Decimal(50_000),
        priced_at=now - timedelta(seconds=70),
    )
    response = boss.get("/admin/exchanges/balance/")
    rows = {row.pk: row for row in response.context["cl"].result_list}
    assert rows[bitcoin.pk].value.amount == Decimal(25_000)
    assert rows[unknown.pk].value is None
    html = response.content.decode()
    assert "25100.00 USDT" in html
    assert "1 balance has no price" in html
    assert re.search(r"1 min \d+ s", html)
    in_euro = boss.get("/admin/exchanges/balance/?currency=EUR").context["cl"]
    assert in_euro.currency == "EUR"
    assert in_euro.unvalued == 3


def test_balance_list__takes_a_fixed_number_of_queries(boss: Client, demo: ExchangeAccount) -> None:
    InstrumentFactory()

    def look() -> int:
        with CaptureQueriesContext(connection) as queries:
            boss.get("/admin/exchanges/balance/")
        return len(queries)

    BalanceFactory(account=demo, asset="BTC")
    look()
    few = look()
    for number in range(20):
        BalanceFactory(account=demo, asset=f"A{number}")
    assert look() == few
