"""The bars beside the risk limits."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice.desk.limit_use import Use, uses_of
from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import Position, RiskLimit, Status
from tests.factories import BalanceFactory, InstrumentFactory, OrderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def limits(demo: ExchangeAccount) -> RiskLimit:
    InstrumentFactory()
    InstrumentFactory(base_asset="ETH", quote_asset="BTC")
    return RiskLimit.objects.create(
        account=demo,
        symbol="BTCUSDT",
        max_open_orders=4,
        max_orders_per_day=10,
        max_notional_per_day=Decimal(5000),
        max_position=Decimal(2),
        max_daily_loss=Decimal(100),
    )


def used(row: RiskLimit) -> dict[str, tuple[Decimal | None, int]]:
    return {use.name: (use.used, use.percent) for use in uses_of([row])[row.pk]}


def test_uses__count_like_the_gate(limits: RiskLimit, demo: ExchangeAccount) -> None:
    yesterday = clock.now() - timedelta(days=1, seconds=1)
    OrderFactory(account=demo, status=Status.NEW)  # worth 500, 0.01 BTC to buy
    OrderFactory(account=demo, status=Status.FILLED)  # worth 500
    OrderFactory(account=demo, status=Status.CANCELED)  # worth nothing
    OrderFactory(account=demo, status=Status.DENIED)  # never sent
    OrderFactory(account=demo, status=Status.FILLED, is_external=True)
    OrderFactory(account=demo, status=Status.NEW, created_at=yesterday)
    OrderFactory(account=demo, status=Status.NEW, symbol="ETHBTC")
    OrderFactory(status=Status.NEW)  # of another account
    BalanceFactory(account=demo, asset="BTC", free=Decimal("0.4"), locked=Decimal("0.08"))
    Position.objects.create(
        account=demo,
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        day=clock.now().date(),
        day_realized=Decimal(-25),
    )
    assert used(limits) == {
        "open orders": (Decimal(2), 50),
        "orders today": (Decimal(3), 30),
        "notional today": (Decimal(1000), 20),
        "position": (Decimal("0.5"), 25),
        "loss today": (Decimal(25), 25),
    }
    limits.symbol, limits.strategy = "", "grid"
    assert used(limits)["open orders"] == (Decimal(0), 0)


def test_uses__call_a_loss_unknown_and_a_gain_no_use(
    limits: RiskLimit, demo: ExchangeAccount
) -> None:
    position = Position.objects.create(
        account=demo,
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        day=clock.now().date(),
        day_realized=Decimal(25),
    )
    assert used(limits)["loss today"] == (Decimal(0), 0)
    position.day_fees = {"BNB": "1"}
    position.save()
    assert used(limits)["loss today"] == (None, 0)


@pytest.mark.parametrize(("amount", "limit", "percent"), [(150, 100, 100), (1, 0, 100), (0, 0, 0)])
def test_use__stays_within_its_bar(amount: int, limit: int, percent: int) -> None:
    assert Use("x", Decimal(amount), Decimal(limit)).percent == percent


def test_page__shows_bars_with_a_fixed_number_of_queries(boss: Client, limits: RiskLimit) -> None:
    def look() -> int:
        with CaptureQueriesContext(connection) as queries:
            html = boss.get("/admin/orders/risklimit/").content.decode()
        assert "<meter" in html
        assert "0 / 5000" in html
        return len(queries)

    look()
    few = look()
    for number in range(20):
        RiskLimit.objects.create(
            account=limits.account, strategy=f"s{number}", max_open_orders=number + 1
        )
    assert look() == few
