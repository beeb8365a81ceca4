"""A cancel that overtakes its submit is remembered, and the order is not sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from exchanges import clock
from orders import services, tasks
from orders.intents import InvalidIntent
from orders.models import EarlyCancel, EventType, ExchangeOrder, Order, OrderEvent, Status
from orders.placing.early_cancels import KEPT_FOR, meet_early_cancels
from orders.reconciliation.open_orders import sync_open_orders
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.steps import as_a_restore, client_id, record, submit

pytestmark = pytest.mark.django_db


def cancel_early(intent_id: str) -> None:
    ExchangeAccountFactory(name="demo")
    with pytest.raises(InvalidIntent, match="no order with intent"):
        tasks.cancel_order("demo", intent_id, requested_by="bot", reason="changed my mind")


@pytest.mark.parametrize("is_stored", [True, False])
def test_cancel_order__that_overtakes_its_submit_is_met_by_the_claim(
    exchange: FakeExchange, is_stored: bool
) -> None:
    cancel_early("late")
    order = services.place_order(record("late").pk) if is_stored else submit("late")
    assert (order.status, order.reason_code) == (Status.CANCELED, "WITHDRAWN")
    assert order.cancel_requested_by == "bot"
    assert "place" not in [name for name, _ in exchange.calls]
    events = OrderEvent.objects.filter(order=order).values_list("event_type", flat=True)
    assert [*events] == [EventType.CREATED, EventType.CANCEL_REQUESTED, EventType.WITHDRAWN]
    assert submit("late").pk == order.pk
    assert submit("another").cancel_requested_at is None


def test_cancel_order__a_repeated_early_cancel_is_one_row(exchange: FakeExchange) -> None:
    cancel_early("late")
    cancel_early("late")
    assert EarlyCancel.objects.count() == 1


def test_cancel_order__only_messages_are_remembered(exchange: FakeExchange) -> None:
    ExchangeAccountFactory(name="demo")
    with pytest.raises(InvalidIntent):
        services.cancel_order(account="demo", intent_id="typo", requested_by="eva")
    with pytest.raises(InvalidIntent, match="account"):
        tasks.cancel_order("nobody", "typo")
    assert not EarlyCancel.objects.exists()


def test_sweep__cancels_an_order_whose_claim_missed_the_early_cancel(
    exchange: FakeExchange,
) -> None:
    ExchangeAccountFactory(name="demo")
    order = submit("late", price="20000")
    assert order.status == Status.NEW
    services.remember_cancel(
        account=order.account, intent_id="late", requested_by="bot", reason="x"
    )
    resolve_unconfirmed()
    resolve_unconfirmed()
    order.refresh_from_db()
    assert order.status == Status.CANCELED


def test_sweep__forgets_early_cancels_after_their_time(exchange: FakeExchange) -> None:
    cancel_early("late")
    EarlyCancel.objects.update(at=clock.now() - KEPT_FOR - timedelta(seconds=1))
    resolve_unconfirmed()
    assert not EarlyCancel.objects.exists()


@pytest.mark.parametrize("is_first", ["cancel", "recovery"])
def test_cancel_order__meets_an_order_that_was_recovered_without_its_intent(
    exchange: FakeExchange, is_first: str
) -> None:
    """After a restore a bot may cancel an intent that the book knows by its hash alone."""
    account = ExchangeAccountFactory(name="demo")
    submit("warm-up", price="20000")
    order = submit("lost", price="20000")
    name = client_id(order)
    with as_a_restore():
        for model in (OrderEvent, ExchangeOrder):
            model._default_manager.filter(order=order).delete()
        Order.objects.filter(pk=order.pk).delete()

    if is_first == "cancel":
        cancel_early("lost")
        sync_open_orders(account)
        resolve_unconfirmed()
        resolve_unconfirmed()
    else:
        sync_open_orders(account)
        assert tasks.cancel_order("demo", "lost", requested_by="bot")["status"] == "CANCELED"

    assert exchange.status(name) == "CANCELED"


def test_sweep__costs_the_same_for_any_number_of_early_cancels(
    exchange: FakeExchange, django_assert_max_num_queries: Any
) -> None:
    ExchangeAccountFactory(name="demo")
    for number in range(60):
        cancel_early(f"never-{number}")
    with django_assert_max_num_queries(8):
        meet_early_cancels()
