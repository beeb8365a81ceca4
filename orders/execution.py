"""The orchestrator's face, for a bot that shares this code base."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction

from exchanges import clock
from exchanges.types import Side, plain
from orders import services
from orders.intents import invalid, parse_account, parse_intent, parse_known_intent_id
from orders.models import Order
from orders.tasks import place_order

log = structlog.get_logger(__name__)

Figure = str | Decimal | None


class OrderExecutionService:
    """Records orders of one account in the caller's transaction and has them sent when it commits.

    An order is recorded even while the broker is down: the sweep sends it as long as its deadline lasts. Malformed
    arguments raise `orders.intents.InvalidIntent`.
    """

    def __init__(self, account_name: str) -> None:
        self.account_name = parse_account(account_name)

    def execute_buy_order(
        self,
        *,
        intent_id: str,
        symbol: str,
        order_type: str,
        quantity: Figure = None,
        quote_quantity: Figure = None,
        price: Figure = None,
        stop_price: Figure = None,
        time_in_force: str | None = None,
        strategy: str = "",
        submitted_at: datetime | str | None = None,
        place_within_seconds: float | None = None,
    ) -> Order:
        """Record a buy (arguments of `orders.submit_order`); the same intent again gives the same order."""
        return self._execute(
            side=Side.BUY,
            intent_id=intent_id,
            symbol=symbol,
            order_type=order_type,
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price,
            stop_price=stop_price,
            time_in_force=time_in_force,
            strategy=strategy,
            submitted_at=submitted_at,
            place_within_seconds=place_within_seconds,
        )

    def execute_sell_order(
        self,
        *,
        intent_id: str,
        symbol: str,
        order_type: str,
        quantity: Figure = None,
        quote_quantity: Figure = None,
        price: Figure = None,
        stop_price: Figure = None,
        time_in_force: str | None = None,
        strategy: str = "",
        submitted_at: datetime | str | None = None,
        place_within_seconds: float | None = None,
    ) -> Order:
        """Record a sell (arguments of `orders.submit_order`); the same intent again gives the same order."""
        return self._execute(
            side=Side.SELL,
            intent_id=intent_id,
            symbol=symbol,
            order_type=order_type,
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price,
            stop_price=stop_price,
            time_in_force=time_in_force,
            strategy=strategy,
            submitted_at=submitted_at,
            place_within_seconds=place_within_seconds,
        )

    def cancel_order(self, intent_id: str, *, requested_by: str = "", reason: str = "") -> Order:
        """Cancel now, in this process; see `orders.services.cancel_order`."""
        return services.cancel_order(
            account=self.account_name,
            intent_id=parse_known_intent_id(intent_id),
            requested_by=requested_by,
            reason=reason,
        )

    def get_order(self, intent_id: str) -> Order:
        """The order of an intent; `InvalidIntent` if there is none."""
        order = Order.objects.filter(account__name=self.account_name, intent_id=intent_id).first()
        if order is None:
            raise invalid("intent_id", f"account {self.account_name!r} has no order with intent {intent_id!r}")
        return order

    def _execute(self, **arguments: Any) -> Order:
        for name in ("quantity", "quote_quantity", "price", "stop_price"):
            if isinstance(arguments[name], Decimal):
                arguments[name] = decimal_text(name, arguments[name])
        given = {name: value for name, value in arguments.items() if value is not None}
        intent = parse_intent({"account": self.account_name, **given}, now=clock.now())
        order, is_new = services.record_order(intent)
        if is_new:
            transaction.on_commit(partial(enqueue_place, order.pk))
            if is_eager() and not transaction.get_connection().in_atomic_block:
                order.refresh_from_db()
        return order


def decimal_text(field: str, value: Decimal) -> str:
    """A Decimal as the text that an intent takes; `InvalidIntent` for NaN and infinities."""
    if not value.is_finite():
        raise invalid(field, f"{value} is not a finite number")
    return plain(value)


def is_eager() -> bool:
    """Whether tasks run in this process. A test may have said so after Celery read its settings."""
    return bool(settings.CELERY_TASK_ALWAYS_EAGER or current_app.conf.task_always_eager)


def enqueue_place(order_id: UUID) -> None:
    """Ring the doorbell. If the broker does not answer, the order waits in the database for the sweep."""
    if is_eager():
        place_order.apply((str(order_id),), throw=True)
        return
    try:
        place_order.delay(str(order_id))
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises: the sweep finds the order
        log.warning("enqueue_failed", order_id=str(order_id), error=type(error).__name__)
