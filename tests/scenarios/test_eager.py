"""The whole path inside one test without broker or worker, for tests of an orchestrator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db import transaction

from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import install
from exchanges.models import ExchangeAccount
from orders import tasks
from orders.execution import OrderExecutionService
from orders.intents import InvalidIntent
from orders.models import Order
from tests.harness.simulator import Simulator

BUY: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "50000",
}
Capture = Callable[..., AbstractContextManager[list[Callable[[], object]]]]


pytestmark = [pytest.mark.usefixtures("eager"), pytest.mark.core]


@pytest.mark.django_db
def test_execute_buy_order__is_placed_when_the_callers_transaction_commits(
    account: ExchangeAccount, simulator: Simulator, django_capture_on_commit_callbacks: Capture
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        order = OrderExecutionService("demo").execute_buy_order(intent_id="i-1", **BUY)
        assert order.status == "CREATED"
        assert simulator.control.truth().accepted_total() == 0

    order.refresh_from_db()
    assert order.status == "NEW"
    assert simulator.control.truth().accepted_total() == 1
    assert OrderExecutionService("demo").cancel_order("i-1", reason="done").status == "CANCELED"


@pytest.mark.django_db
def test_execute_buy_order__is_not_placed_before_a_commit(
    account: ExchangeAccount, simulator: Simulator, django_capture_on_commit_callbacks: Capture
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        OrderExecutionService("demo").execute_buy_order(intent_id="i-1", **BUY)
        OrderExecutionService("demo").execute_buy_order(intent_id="i-1", **BUY)

    assert len(callbacks) == 1, "the same intent again rings no second bell"
    assert Order.objects.get().status == "CREATED"
    assert simulator.control.truth().accepted_total() == 0


@pytest.mark.django_db(transaction=True)
def test_execute_buy_order__outside_a_transaction_is_placed_at_once(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = OrderExecutionService("demo").execute_buy_order(intent_id="i-1", **BUY)

    assert order.status == "NEW"
    assert simulator.control.truth().accepted_total() == 1


@pytest.mark.django_db(transaction=True)
def test_execute_sell_order__rolled_back_is_never_placed(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    def fail() -> None:
        with transaction.atomic():
            OrderExecutionService("demo").execute_sell_order(
                intent_id="i-1", **{**BUY, "price": "70000"}
            )
            raise KeyError("the orchestrator's own mistake")

    with pytest.raises(KeyError):
        fail()

    assert not Order.objects.exists()
    assert simulator.control.truth().accepted_total() == 0


@pytest.mark.django_db
def test_submit_order__returns_what_a_worker_would(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    simulator.control.unfreeze()
    arguments = {
        "account": "demo",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "MARKET",
        "quantity": "0.01",
    }

    answer = tasks.submit_order.delay(intent_id="i-1", **arguments).get()

    assert answer["status"] == "FILLED"
    assert answer["filled_quantity"] == "0.01"
    assert tasks.submit_order.delay(intent_id="i-1", **arguments).get() == answer
    assert simulator.control.truth().accepted_total() == 1


@pytest.mark.django_db
def test_errors__of_the_caller_propagate(account: ExchangeAccount) -> None:
    with pytest.raises(InvalidIntent, match=r"^price: is missing"):
        tasks.submit_order.delay(
            intent_id="i-1",
            account="demo",
            symbol="BTCUSDT",
            side="BUY",
            order_type="LIMIT",
            quantity="1",
        )


@pytest.mark.django_db(transaction=True)
def test_errors__of_the_task_propagate(account: ExchangeAccount) -> None:
    def broken(_: object) -> Gateway:
        raise RuntimeError("no gateway today")

    with install(broken), pytest.raises(RuntimeError, match="no gateway today"):
        OrderExecutionService("demo").execute_buy_order(intent_id="i-1", **BUY)

    assert Order.objects.get().status == "CREATED", "recorded all the same: a sweep would send it"
