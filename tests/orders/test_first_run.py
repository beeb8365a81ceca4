"""The first comparison of an account that has traded for years before we came."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from exchanges import clock
from exchanges.gateway import get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import OrderRequest, OrderType, Side, TimeInForce
from orders.compare import reconcile_account
from orders.models import Fill, Order
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "1000000", "BTC": "1"}).installed() as exchange:
        yield exchange


@pytest.fixture
def old_account(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    for number in range(1200):
        place_by_hand(account, f"old-{number}")
        exchange.fill(f"old-{number}")
    return account


def place_by_hand(account: ExchangeAccount, client_order_id: str) -> None:
    get_gateway(account).place(
        OrderRequest(
            symbol="BTCUSDT",
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            client_order_id=client_order_id,
            timestamp_ms=clock.now_ms(),
            recv_window_ms=5000,
            quantity=Decimal("0.001"),
            price=Decimal(40000),
            time_in_force=TimeInForce.GTC,
        )
    )


def test_reconcile_account__does_not_import_years_of_history(
    old_account: ExchangeAccount, exchange: FakeExchange
) -> None:
    place_by_hand(old_account, "open-now")
    del exchange.calls[:]
    with capture_logs() as logs:
        result = reconcile_account(old_account)
    assert (result["external"], result["recovered"], result["breaks"]) == (1, 0, 0)
    assert [order.intent_id.partition(":")[0] for order in Order.objects.all()] == ["external"]
    assert not Fill.objects.exists()
    assert len(exchange.calls_of("fetch_all_orders")) == 1
    said = [entry for entry in logs if entry["event"] in ("symbol_caught_up", "account_reconciled")]
    assert [entry["external"] for entry in said] == [0, 1]


def test_reconcile_account__from_then_on_follows_everything(
    old_account: ExchangeAccount, exchange: FakeExchange, settings: Settings
) -> None:
    settings.EXCHANGE_READ_LAG_MS = 0
    place_by_hand(old_account, "open-now")
    reconcile_account(old_account)
    exchange.fill("open-now")
    reconcile_account(old_account)
    order = Order.objects.get()
    assert (order.status, order.is_external) == ("FILLED", True)
