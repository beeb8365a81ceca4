"""Ask the exchange about one order at once, because a person wants to know."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from exchanges.binance.registry import get_gateway
from exchanges.errors import GatewayError, NotSent, OrderNotFound
from exchanges.key_holders import ask_a_worker, must_ask
from orders.models import AttemptOutcome, ExchangeOrder, Order
from orders.reconciliation.questions import ask_for, fetch_missing_fills
from orders.recording.apply import apply_report
from orders.recording.plan import attempt_state

ASK_ORDER = "orders.ask_order"
_NEVER_THERE = (AttemptOutcome.REJECTED, AttemptOutcome.NOT_SENT, AttemptOutcome.LOST)


def ask_now(order: Order) -> tuple[Order, list[str]]:
    """Record the exchange's state of every attempt that may be there. Return the order.

    The second part names the attempts that the exchange doesn't know. That is true at this moment
    and no verdict: only the sweep proves absence. A process without keys asks a worker. Raises
    `GatewayError`.
    """
    if not must_ask(order.account):
        return _ask(order)
    answer = ask_a_worker(ASK_ORDER, str(order.pk))
    if error := answer.get("error"):
        raise NotSent(error, retry_after=None)
    order.refresh_from_db()
    return order, [str(name) for name in answer["unknown"]]


def answer_of(order_id: UUID) -> dict[str, Any]:
    """Ask for a process without keys, and return the answer as a message."""
    order = Order.objects.select_related("account").get(pk=order_id)
    try:
        return {"unknown": _ask(order)[1], "error": ""}
    except GatewayError as error:
        return {"unknown": [], "error": error.message}


def _ask(order: Order) -> tuple[Order, list[str]]:
    gateway, unknown = get_gateway(order.account), []
    attempts = ExchangeOrder.objects.filter(order=order).exclude(outcome__in=_NEVER_THERE)
    for attempt in attempts.order_by("attempt"):
        attempt.order = order
        try:
            order = apply_report(attempt, ask_for(gateway, attempt))
        except OrderNotFound:
            unknown.append(attempt.client_order_id)
            continue
        attempt.refresh_from_db()
        attempt.order = order
        if attempt.exchange_order_id and attempt_state(attempt).has_fill_gap:
            order = fetch_missing_fills(gateway, attempt)
    return order, unknown
