"""Record and cancel orders from a bot that shares this code base."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Required, TypedDict, Unpack
from uuid import UUID

import structlog
from celery import current_app
from django.conf import settings
from django.db import connection, transaction

from exchanges import clock
from exchanges.limits.redis import require_redis
from exchanges.types import Side, plain
from orders import services
from orders.accounts import account_named
from orders.amounts import AMOUNTS
from orders.intents import (
    Intent,
    invalid,
    parse_account,
    parse_intent,
    parse_known_intent_id,
    unknown_argument,
)
from orders.models import Order
from orders.placing.intent_order import find_order
from orders.services import is_in_transaction
from orders.tasks import place_order

log = structlog.get_logger(__name__)

Amount = str | Decimal | None


class OrderArguments(TypedDict, total=False):
    """The arguments of `orders.submit_order` without the account and the side."""

    intent_id: Required[str]
    symbol: Required[str]
    order_type: Required[str]
    quantity: Amount
    quote_quantity: Amount
    price: Amount
    stop_price: Amount
    time_in_force: str | None
    strategy: str
    submitted_at: datetime | str | None
    place_within_seconds: float | None


class OrderExecutionService:
    """Place orders of one account, through the queue or with `wait=True` in this process.

    Through the queue: the order is recorded in the caller's transaction, and a worker sends it
    after the commit. An order is recorded even while the broker is down. Then the sweep sends it
    while its deadline lasts.

    With `wait=True` the call itself claims, sends and records, and returns the order acknowledged,
    closed, or PENDING_NEW if the outcome is unknown. An order that can't go now is CREATED and
    left to the sweep. Gate, limits, locks and sweep are the same. It saves the hand-overs to
    broker and worker, but the caller waits for the exchange. If the call raises, or the process
    dies, call again with the same intent: it is the same order.

    Malformed arguments raise `orders.intents.InvalidIntent`.
    """

    def __init__(self, account_name: str) -> None:
        self.account_name = parse_account(account_name)

    def execute_buy_order(
        self, *, wait: bool = False, **arguments: Unpack[OrderArguments]
    ) -> Order:
        """Place a buy, once per intent: the same intent again returns the same order."""
        return self._execute(Side.BUY, arguments, wait=wait)

    def execute_sell_order(
        self, *, wait: bool = False, **arguments: Unpack[OrderArguments]
    ) -> Order:
        """Place a sell, once per intent: the same intent again returns the same order."""
        return self._execute(Side.SELL, arguments, wait=wait)

    def cancel_order(self, intent_id: str, *, requested_by: str = "", reason: str = "") -> Order:
        """Cancel now, in this process. See `orders.services.cancel_order`."""
        return services.cancel_order(
            account=self.account_name,
            intent_id=parse_known_intent_id(intent_id),
            requested_by=requested_by,
            reason=reason,
        )

    def get_order(self, intent_id: str) -> Order:
        """Return the order of an intent. Raises `InvalidIntent` if there is none."""
        order = find_order(account_named(self.account_name), intent_id)
        if order is None:
            raise invalid(
                "intent_id", f"account {self.account_name!r} has no order with intent {intent_id!r}"
            )
        return order

    def _execute(self, side: Side, arguments: OrderArguments, *, wait: bool) -> Order:
        given: dict[str, Any] = {
            name: value for name, value in arguments.items() if value is not None
        }
        for name in given:
            if name not in OrderArguments.__annotations__:
                raise unknown_argument(name)
        for name in AMOUNTS:
            if isinstance(given.get(name), Decimal):
                given[name] = decimal_text(name, given[name])
        intent = parse_intent(
            {**given, "account": self.account_name, "side": side}, now=clock.now()
        )
        if wait:
            return place_here(intent)
        order, is_new = services.record_order(intent)
        if is_new:
            transaction.on_commit(partial(enqueue_place, order.pk))
            if is_eager() and not transaction.get_connection().in_atomic_block:
                order.refresh_from_db()
        return order


def place_here(intent: Intent) -> Order:
    """Place the intent in this process, under the limits that it shares with all workers.

    Raises `InvalidIntent` inside a transaction: the claim must be on disk before the request
    leaves, and no transaction may stay open during a call to the exchange.
    """
    if is_in_transaction():
        raise invalid("wait", "an order can't be placed inside a transaction")
    # Not for a test's orders, which no worker will ever see.
    if not is_eager() and not connection.in_atomic_block:
        require_redis()
    connection.close_if_stale()  # type: ignore[attr-defined]  # our backend's
    return services.submit_order(intent)


def decimal_text(field: str, value: Decimal) -> str:
    """Return a Decimal as plain text. Raises `InvalidIntent` for NaN and infinities."""
    if not value.is_finite():
        raise invalid(field, f"{value} is not a finite number")
    return plain(value)


def is_eager() -> bool:
    """Return whether tasks run in this process.

    A test may have set that after Celery read its settings.
    """
    return bool(settings.CELERY_TASK_ALWAYS_EAGER or current_app.conf.task_always_eager)


def enqueue_place(order_id: UUID) -> None:
    """Enqueue `orders.place_order`. If the broker doesn't answer, the sweep sends the order."""
    if is_eager():
        place_order.apply((str(order_id),), throw=True)
        return
    try:
        place_order.delay(str(order_id))
    except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
        log.warning("enqueue_failed", order_id=str(order_id), error=type(error).__name__)
