"""Check what migrations make of rows that earlier versions have left."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.db import connection

from exchanges import clock
from orders.models import Order
from tests.factories import ExchangeOrderFactory, OrderFactory

pytestmark = pytest.mark.django_db


def test_verdict_and_open_attempts__of_rows_of_earlier_versions() -> None:
    """An order that was closed with an attempt in flight gets its next step."""
    step = import_module("orders.migrations.0015_verdict_and_open_attempts")
    stuck = OrderFactory(status="FILLED", attempt=2)
    ExchangeOrderFactory(order=stuck, attempt=1)
    ExchangeOrderFactory(
        order=stuck, attempt=2, outcome="UNKNOWN", exchange_status="", filled_quantity=0
    )
    twins = OrderFactory(status="NEW", attempt=2)
    ExchangeOrderFactory(order=twins, attempt=1)
    ExchangeOrderFactory(order=twins, attempt=2)
    working, denied = OrderFactory(status="NEW"), OrderFactory(status="DENIED")
    ExchangeOrderFactory(order=working)
    withdrawn, canceled = OrderFactory(status="CANCELED"), OrderFactory(status="CANCELED")
    ExchangeOrderFactory(order=canceled)
    Order.objects.update(open_attempts=0, next_check_at=None, verdict="CREATED")
    with connection.cursor() as cursor:
        for statement in (step.VERDICTS, step.REFUSED, step.OPEN_ATTEMPTS):
            cursor.execute(statement)

    def row(order: Order) -> tuple[str, int, bool]:
        order.refresh_from_db()
        due = order.next_check_at is not None and order.next_check_at <= clock.now()
        return order.verdict, order.open_attempts, due

    assert row(stuck) == ("CREATED", 1, True)
    assert row(twins) == ("CREATED", 1, True)
    assert row(working) == ("CREATED", 0, False)
    assert row(denied) == ("DENIED", 0, False)
    assert row(withdrawn) == ("CANCELED", 0, False)
    assert row(canceled) == ("CREATED", 0, False)
