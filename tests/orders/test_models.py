"""Test that rows made with only the documented fields work like our own."""

from __future__ import annotations

import pytest

from exchanges import clock
from orders.models import AttemptOutcome, ExchangeOrder, Order, Status
from tests.factories import OrderFactory

pytestmark = pytest.mark.django_db


def exchange_order(order: Order, **fields: str) -> ExchangeOrder:
    return ExchangeOrder.objects.create(
        order=order,
        account=order.account,
        attempt=1,
        client_order_id="imported-1",
        sent_at=clock.now(),
        **fields,
    )


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"exchange_order_id": "71", "exchange_status": "NEW"}, AttemptOutcome.ACKNOWLEDGED),
        ({"exchange_order_id": "71"}, AttemptOutcome.ACKNOWLEDGED),
        ({"exchange_status": "FILLED"}, AttemptOutcome.ACKNOWLEDGED),
        ({"exchange_status": "REJECTED"}, AttemptOutcome.REJECTED),
        ({}, AttemptOutcome.IN_FLIGHT),
    ],
)
def test_exchange_order_save__takes_what_the_exchange_said_for_its_outcome(
    fields: dict[str, str], outcome: AttemptOutcome
) -> None:
    row = exchange_order(OrderFactory.create(status=Status.NEW), **fields)
    row.refresh_from_db()
    assert (row.symbol, row.outcome) == ("BTCUSDT", outcome)


def test_exchange_order_save__keeps_what_is_said_by_name() -> None:
    row = exchange_order(
        OrderFactory.create(status=Status.PENDING_NEW),
        symbol="ETHUSDT",
        exchange_order_id="71",
        outcome=AttemptOutcome.UNKNOWN,
    )
    row.refresh_from_db()
    assert (row.symbol, row.outcome) == ("ETHUSDT", AttemptOutcome.UNKNOWN)
