"""Read the amendments of an order through the client library, and tell ours from others."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import Amendment
from tests.harness.simulator import Simulator
from tests.steps import client_id, submit

pytestmark = pytest.mark.django_db


def test_fetch_amendments__names_the_id_and_quantity_that_were_sent(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    gateway = get_gateway(account)
    number = order.exchange_order_id
    assert gateway.fetch_amendments(symbol="BTCUSDT", exchange_order_id=number) == []
    name = client_id(order)
    simulator.control.amend_by_hand("BTCUSDT", client_order_id=name, quantity="0.005")
    found = gateway.fetch_amendments(symbol="BTCUSDT", exchange_order_id=number)
    assert found == [Amendment(name, Decimal("0.01"))]
