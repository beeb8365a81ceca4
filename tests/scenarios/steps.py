"""Act as a bot, a sweep and the exchange in a story."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import AsyncResult
from django.conf import settings
from django.db import OperationalError
from django.db.models import Q

from backoffice.celery import app
from exchanges.binance.registry import get_gateway
from exchanges.models import Environment
from exchanges.types import OrderReport, OrderRequest, OrderType, Side, TimeInForce
from orders.ids import client_order_id, intent_hash
from orders.models import Order
from orders.states import UNRESOLVED
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for

POST_ORDER = {"method": "POST", "path": "/api/v3/order"}
GET_ORDER = {"method": "GET", "path": "/api/v3/order"}
DELETE_ORDER = {"method": "DELETE", "path": "/api/v3/order"}
MARKET_BUY: dict[str, Any] = {
    "account": "demo",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "MARKET",
    "quantity": "0.01",
}
LIMIT_BUY: dict[str, Any] = {**MARKET_BUY, "order_type": "LIMIT", "price": "50000.00"}


def send(
    intent_id: str, arguments: Mapping[str, Any] = LIMIT_BUY, **changes: Any
) -> AsyncResult[Any]:
    """Enqueue a placement by the task's name, like a bot in any language."""
    kwargs = {"intent_id": intent_id, **arguments, **changes}
    return app.send_task("orders.submit_order", kwargs=kwargs, ignore_result=False)


def send_all(
    intent_ids: Iterable[str], arguments: Mapping[str, Any], **changes: Any
) -> dict[str, AsyncResult[Any]]:
    return {intent_id: send(intent_id, arguments, **changes) for intent_id in intent_ids}


def send_cancel(intent_id: str, **changes: Any) -> AsyncResult[Any]:
    kwargs = {"account": "demo", "intent_id": intent_id, **changes}
    return app.send_task("orders.cancel_order", kwargs=kwargs, ignore_result=False)


def place(
    intent_id: str, arguments: Mapping[str, Any] = LIMIT_BUY, **changes: Any
) -> dict[str, Any]:
    """Enqueue a placement and wait for the worker's answer."""
    answer: dict[str, Any] = send(intent_id, arguments, **changes).get(timeout=20)
    return answer


def cancel(intent_id: str, **changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = send_cancel(intent_id, **changes).get(timeout=20)
    return answer


def order(intent_id: str) -> Order:
    return Order.objects.get(account__name="demo", intent_id=intent_id)


def statuses() -> dict[str, str]:
    """Return intent id -> status of every order in the book."""
    return {
        intent_id: str(status)
        for intent_id, status in Order.objects.values_list("intent_id", "status")
    }


def place_by_hand(scenario: Scenario, client_order_id: str, **changes: Any) -> OrderReport:
    """Place an order past the back office, with the account's own key."""
    gateway = get_gateway(scenario.account)
    figures: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal("0.01"),
        "price": Decimal(50000),
        "time_in_force": TimeInForce.GTC,
        "timestamp_ms": gateway.server_time_ms(),
        "recv_window_ms": 5000,
    }
    return gateway.place(OrderRequest(client_order_id=client_order_id, **{**figures, **changes}))


def client_id(intent_id: str, attempt: int = 1) -> str:
    """Return the client order id of this intent, computed as the contract words it."""
    hashed = intent_hash(
        deployment_id=settings.DEPLOYMENT_ID,
        environment=Environment.SIMULATOR,
        account="demo",
        intent_id=intent_id,
    )
    return client_order_id(hashed, attempt)


def sweep_once() -> None:
    """Run the sweep once in a worker."""
    app.send_task("orders.resolve_unconfirmed", ignore_result=False).get(timeout=30)


def sweep_until(condition: Callable[[], bool], *, timeout: float = 20.0, what: str = "") -> None:
    """Let workers sweep, one run after the other like beat, until the condition holds."""
    running: AsyncResult[Any] | None = None

    def is_done() -> bool:
        nonlocal running
        if condition():
            return True
        if running is not None:
            try:
                running.get(timeout=0.1)
            except ResultTimeout:
                return False
            except OperationalError:
                pass  # its connection was cut, and beat wouldn't wait either
        running = app.send_task("orders.resolve_unconfirmed", ignore_result=False, expires=5)
        return False

    wait_for(is_done, timeout=timeout, every=0.05, what=what or "the sweep has done it")


def settle(*, timeout: float = 20.0) -> None:
    """Let workers sweep until no order has a next step."""
    sweep_until(
        lambda: (
            not Order.objects.filter(
                Q(status__in=[*UNRESOLVED]) | Q(next_check_at__isnull=False)
            ).exists()
        ),
        timeout=timeout,
        what="every order is settled",
    )


def placements(scenario: Scenario) -> int:
    """Count the requests to place an order that have reached the exchange."""
    return scenario.simulator.control.truth().requests.get("POST /api/v3/order", 0)
