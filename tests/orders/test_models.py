"""Rows that others make with the documented fields alone are worked on like our own."""

from __future__ import annotations

import pytest

from exchanges import clock
from orders.models import ExchangeOrder, Order, Outcome, Status
from tests.factories import OrderFactory

pytestmark = pytest.mark.django_db


def exchange_order(order: Order, **fields: str) -> ExchangeOrder:
    return ExchangeOrder.objects.create(
        order=order, account=order.account, attempt=1, client_order_id="imported-1", sent_at=clock.now(), **fields
    )


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"exchange_order_id": "71", "exchange_status": "NEW"}, Outcome.ACKNOWLEDGED),
        ({"exchange_order_id": "71"}, Outcome.ACKNOWLEDGED),
        ({"exchange_status": "FILLED"}, Outcome.ACKNOWLEDGED),
        ({"exchange_status": "REJECTED"}, Outcome.REJECTED),
        ({}, Outcome.IN_FLIGHT),
    ],
)
def test_exchange_order_save__takes_what_the_exchange_said_for_its_outcome(
    fields: dict[str, str], outcome: Outcome
) -> None:
    row = exchange_order(OrderFactory.create(status=Status.NEW), **fields)
    row.refresh_from_db()
    assert (row.symbol, row.outcome) == ("BTCUSDT", outcome)


def test_exchange_order_save__keeps_what_is_said_by_name() -> None:
    row = exchange_order(
        OrderFactory.create(status=Status.PENDING_NEW),
        symbol="ETHUSDT",
        exchange_order_id="71",
        outcome=Outcome.UNKNOWN,
    )
    row.refresh_from_db()
    assert (row.symbol, row.outcome) == ("ETHUSDT", Outcome.UNKNOWN)
