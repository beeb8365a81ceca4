"""60 submits and 10 cancels wait while a part of the back office is away: the common story."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from time import monotonic
from typing import Any

from celery.result import AsyncResult

from backoffice.celery import app
from exchanges.models import Balance
from orders.models import ExchangeOrder, Order
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.steps import LIMIT_BUY, send, send_cancel, settle

SUBMITS, CANCELS, EARLIER = 60, 10, 12
PATIENT: dict[str, Any] = {**LIMIT_BUY, "quantity": "0.001", "place_within_seconds": 600}
QUICK_LIMITS = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
    "DATABASE_STATEMENT_TIMEOUT_MS": "2000",
    "DATABASE_ANSWER_TIMEOUT_SECONDS": "3",
}
Workers = Callable[..., None]


def place_the_first() -> list[str]:
    """Return the orders to cancel later. Others are canceled now: all threads have a connection."""
    earlier = [f"earlier-{number}" for number in range(EARLIER)]
    intents = [f"first-{number}" for number in range(CANCELS)]
    for result in [send(intent_id, PATIENT) for intent_id in earlier + intents]:
        assert result.get(timeout=60)["status"] == "NEW"
    for result in [send_cancel(intent_id) for intent_id in earlier]:
        assert result.get(timeout=60)["status"] == "CANCELED"
    return intents


def send_everything(to_cancel: list[str]) -> list[AsyncResult[Any]]:
    sent = [send(f"waiting-{number}", PATIENT) for number in range(SUBMITS)]
    return sent + [send_cancel(intent_id) for intent_id in to_cancel]


def check_nothing_is_lost(
    simulator: Simulator, sent: list[AsyncResult[Any]], *, within: float = 60.0
) -> None:
    """Check our book and the exchange's, once every message has its answer."""
    until = monotonic() + within
    for result in sent:
        result.get(timeout=max(1.0, until - monotonic()))
    settle()
    statuses = dict(Order.objects.values_list("intent_id", "status"))
    assert {statuses.get(f"waiting-{number}") for number in range(SUBMITS)} == {"NEW"}
    assert {statuses.get(f"first-{number}") for number in range(CANCELS)} == {"CANCELED"}
    truth = simulator.control.truth()
    assert truth.accepted_total() == SUBMITS + CANCELS + EARLIER
    ids = ExchangeOrder.objects.values_list("client_order_id", flat=True)
    assert {truth.accepted(client_order_id) for client_order_id in ids} <= {0, 1}
    assert (
        sum(truth.accepted(client_order_id) for client_order_id in ids)
        == SUBMITS + CANCELS + EARLIER
    )
    app.send_task("exchanges.sync_balances", ("demo",), ignore_result=False).get(timeout=20)
    settle()
    reserved = Balance.objects.values_list("reserved", flat=True)
    wait_for(lambda: set(reserved.all()) == {Decimal(0)}, what="the reservations end at zero")
