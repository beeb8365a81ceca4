"""The list of positions: results in money, and the meaning of a negative quantity."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client

from orders.models import Position
from orders.positions.store import advance_positions
from tests.factories import ExchangeOrderFactory, FillFactory, InstrumentFactory, OrderFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/orders/position/"


def trade(side: str) -> None:
    order = OrderFactory(side=side, status="FILLED")
    request = ExchangeOrderFactory(order=order)
    fill = FillFactory(
        exchange_order=request,
        quantity=Decimal("0.3"),
        price=Decimal("100.123"),
        commission=Decimal("0.001"),
        commission_asset="BNB",
    )
    advance_positions(fill.account)
    Position.objects.update(last_price=Decimal(150))


def test_position_list__shows_results_to_two_decimals(boss: Client) -> None:
    InstrumentFactory()
    trade("BUY")
    html = boss.get(LIST).content.decode()
    for text in (">0.30000<", ">100.12<", ">150.00<", ">14.96<", 'title="14.9631"'):
        assert text in html, text
    assert "opening balance" not in html


def test_position_list__a_net_result_without_the_price_of_a_commission_is_unknown(
    boss: Client,
) -> None:
    InstrumentFactory()
    trade("BUY")
    assert "unknown" in boss.get(LIST).content.decode()
    Position.objects.update(fee_prices={"BNB": "600"})
    html = boss.get(LIST).content.decode()
    assert "unknown" not in html
    assert ">-0.60<" in html


def test_position_list__explains_a_negative_quantity(boss: Client) -> None:
    InstrumentFactory()
    trade("SELL")
    html = boss.get(LIST).content.decode()
    assert ">-0.30000<" in html
    assert "opening balance" in html
    assert "not a short position" in html
