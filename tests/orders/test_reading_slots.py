"""Readings leave a thread of their worker to the halt rules and the notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery._state import _task_stack

from backoffice.celery import leave_threads_to_duties
from exchanges.duties import HandOver
from exchanges.models import ExchangeAccount
from orders.models import Order
from orders.reading_slots import slots
from orders.tasks import place_order
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]


class Worker:
    """A worker, as far as the signal of its start needs it."""

    concurrency = 4


@pytest.fixture
def order() -> Iterator[Order]:
    with FakeExchange().installed():
        owner: ExchangeAccount = ExchangeAccountFactory(name="demo")
        assert owner.is_enabled
        yield steps.record()


@pytest.fixture(autouse=True)
def worker() -> Iterator[None]:
    leave_threads_to_duties(Worker())
    yield
    slots.share(None)


def deliver(order: Order) -> dict[str, Any]:
    """Run the message that was handed over to `duties`, as a worker does."""
    place_order.push_request(called_directly=False, delivery_info={"routing_key": "duties"})
    _task_stack.push(place_order)
    try:
        return dict(place_order.run(str(order.pk)))
    finally:
        _task_stack.pop()
        place_order.pop_request()


def test_place_order__readings_leave_a_thread_to_the_short_duties(order: Order) -> None:
    with ExitStack() as readings:
        assert all(readings.enter_context(slots.one()) for _ in range(Worker.concurrency - 1))
        with pytest.raises(HandOver) as handed:
            deliver(order)
    assert handed.value.queue == "duties"
    order.refresh_from_db()
    assert order.status == "CREATED"
    assert deliver(order)["status"] == "NEW"


def test_place_order__is_done_here_if_the_broker_takes_no_message(order: Order) -> None:
    with ExitStack() as readings:
        for _ in range(Worker.concurrency - 1):
            readings.enter_context(slots.one())
        with pytest.raises(HandOver) as handed:
            deliver(order)
        assert handed.value.or_else()["status"] == "NEW"
