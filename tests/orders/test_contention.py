"""Check what remains of an order when every try of a compare-and-swap is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from exchanges.models import Environment, ExchangeAccount, Reservation
from orders import services
from orders.models import ExchangeOrder, Fill, Order, OrderEvent
from orders.placing import cancel
from orders.recording import apply
from orders.recording.apply import apply_refusal
from orders.recording.changes import TooMuchContention
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis
from tests.steps import submit

pytestmark = pytest.mark.django_db

# With it PostgreSQL changes no row, whatever the statement, just as for the loser of a race.
ALWAYS_LOSE = """
CREATE FUNCTION lose_update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER lose_update BEFORE UPDATE ON orders_order FOR EACH ROW EXECUTE FUNCTION lose_update()
"""


@pytest.fixture
def exchange(redis_server: TestRedis) -> Iterator[FakeExchange]:
    ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    with FakeExchange().installed() as exchange:
        yield exchange


def always_lose() -> None:
    """Make this test lose every race for an order from now on."""
    with connection.cursor() as cursor:
        cursor.execute(ALWAYS_LOSE)


def stored() -> tuple[Any, ...]:
    """Return everything that a change of the order would write."""
    order = Order.objects.values_list().get()
    return (
        order,
        *ExchangeOrder.objects.values_list("outcome", "exchange_status", "filled_quantity"),
        *OrderEvent.objects.order_by("id").values_list("event_type", flat=True),
        Fill.objects.count(),
        Reservation.objects.count(),
    )


def keeps(before: tuple[Any, ...], work: Callable[[], object]) -> None:
    """Check that the work raises, and that it leaves nothing half done."""
    with pytest.raises(TooMuchContention):
        work()
    assert stored() == before


def pending(exchange: FakeExchange) -> ExchangeOrder:
    """Send an order whose answer is lost, and return its attempt."""
    exchange.lose_answer("place", executed=True)
    assert submit().status == "PENDING_NEW"
    return ExchangeOrder.objects.select_related("order__account").get()


def test_apply_report__raises_when_its_tries_are_used_up(exchange: FakeExchange) -> None:
    attempt = pending(exchange)
    exchange.fill(attempt.client_order_id)
    gateway = exchange.gateway(attempt.order.account)
    report = gateway.fetch_order(symbol="BTCUSDT", client_order_id=attempt.client_order_id)
    before = stored()
    always_lose()
    keeps(before, lambda: apply.apply_report(attempt, report))


def test_apply_refusal__raises_when_its_tries_are_used_up(exchange: FakeExchange) -> None:
    attempt = pending(exchange)
    before = stored()
    always_lose()
    keeps(before, lambda: apply_refusal(attempt, code="-2010", message="no"))


def test_request_cancel__raises_when_its_tries_are_used_up(exchange: FakeExchange) -> None:
    """A caller must not believe that its cancel request was recorded."""
    order = submit()
    before = stored()
    always_lose()
    keeps(before, lambda: cancel.request_cancel(order, requested_by="eva", reason="stop"))
    keeps(before, lambda: services.cancel_order(account="demo", intent_id="i-1"))
    assert exchange.calls_of("cancel") == []


@pytest.mark.parametrize("fault", ["lose_answer", "refuse_connection"])
def test_submit_order__an_outcome_that_cannot_be_recorded_leaves_the_order_to_the_sweep(
    exchange: FakeExchange, fault: str
) -> None:
    always_lose()
    if fault == "lose_answer":
        exchange.lose_answer("place", executed=False)
    else:
        exchange.refuse_connection("place")
    submit()
    order, attempt = Order.objects.get(), ExchangeOrder.objects.get()
    assert (order.status, attempt.outcome) == ("PENDING_NEW", "IN_FLIGHT")
    assert order.next_check_at is not None
    assert list(order.events.values_list("event_type", flat=True)) == ["CREATED", "CLAIMED"]
    assert Reservation.objects.count() == 1


def test_cancel_order__an_unconfirmed_cancel_that_cannot_be_noted_stays_due(
    exchange: FakeExchange,
) -> None:
    exchange.refuse_connection("cancel", times=2)
    submit()
    services.cancel_order(account="demo", intent_id="i-1", requested_by="eva")
    before = stored()
    always_lose()
    services.cancel_order(account="demo", intent_id="i-1", requested_by="eva")
    assert stored() == before
    order = Order.objects.get()
    assert (order.status, order.cancel_requested_at is not None) == ("NEW", True)
    assert order.next_check_at is not None
