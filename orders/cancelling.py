"""Cancelling: withdraw what was not sent, keep the wish for what is in flight, ask the exchange for the rest.

Only the exchange's word makes an open order CANCELED; a fill beats a cancel.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.db import transaction

from exchanges import clock
from exchanges.errors import AccountError, GatewayError, OrderNotFound, OrderRejected
from exchanges.gateway import Gateway, get_gateway
from orders.accounts import account_named
from orders.book import apply_report, log_fields, record_event, swap
from orders.catchup import ask_for
from orders.intents import invalid, parse_note
from orders.models import EventType, ExchangeOrder, Order, Outcome
from orders.retry import durable
from orders.states import CLOSED, OPEN, OrderStatus
from orders.troubles import error_details, pause_after, stop_account

log = structlog.get_logger(__name__)

_MAX_TRIES = 50


def cancel_order(*, account: str, intent_id: str, requested_by: str = "", reason: str = "") -> Order:
    """Cancel by intent: withdraw what was not sent, keep the wish for what is in flight, ask the exchange for the rest.

    Only the exchange's word makes an open order CANCELED. Trouble on the way leaves the wish recorded, and the sweep
    goes on. Needs no broker. Raises `InvalidIntent` for an unknown account or intent.
    """
    requested_by = parse_note("requested_by", requested_by, longest=150)
    reason = parse_note("reason", reason, longest=1000)
    owner = account_named(account)
    order = Order.objects.filter(account=owner, intent_id=intent_id).first()
    if order is None:
        raise invalid("intent_id", f"account {account!r} has no order with intent {intent_id!r}")
    order = request_cancel(order, requested_by=requested_by, reason=reason)
    if order.status not in OPEN:
        return order
    try:
        return drive_cancel(get_gateway(owner), order)
    except GatewayError as error:
        log.warning("cancel_waits", **log_fields(order), error=str(error))
        return order


def request_cancel(order: Order, *, requested_by: str, reason: str) -> Order:
    """Record the wish, or withdraw an order that was never sent. Which of the two, the database decides."""

    def record() -> Order:
        for _ in range(_MAX_TRIES):
            if order.status in CLOSED or order.cancel_requested_at is not None:
                return order
            with transaction.atomic():
                if swap(
                    order,
                    cancel_requested_at=clock.now(),
                    cancel_requested_by=requested_by,
                    next_check_at=order.next_check_at or clock.now(),
                ):
                    record_event(
                        order,
                        EventType.CANCEL_REQUESTED,
                        actor=requested_by,
                        previous_status=order.status,
                        details={"reason": reason},
                    ).save(force_insert=True)
                    log.info("cancel_requested", **log_fields(order), requested_by=requested_by, reason=reason)
                    break
            order.refresh_from_db()
        return withdraw(order) if order.status == OrderStatus.CREATED else order

    return durable(record)


def withdraw(order: Order) -> Order:
    """CREATED and unwanted -> CANCELED without having been sent, unless a worker claims it first."""
    with transaction.atomic():
        if order.status == OrderStatus.CREATED and swap(
            order,
            status=OrderStatus.CANCELED,
            reason_code="WITHDRAWN",
            reason="canceled before it was sent",
            closed_at=clock.now(),
            next_check_at=None,
        ):
            record_event(
                order, EventType.WITHDRAWN, actor=order.cancel_requested_by, previous_status=OrderStatus.CREATED
            ).save(force_insert=True)
            log.info("order_withdrawn", **log_fields(order))
            return order
    order.refresh_from_db()
    return order


def drive_cancel(gateway: Gateway, order: Order) -> Order:
    """Send the cancel of an open order and record what the exchange says; what stays open is tried again later."""
    attempts = list(ExchangeOrder.objects.filter(order=order, outcome=Outcome.ACKNOWLEDGED).order_by("attempt"))
    for attempt in attempts:
        attempt.order = order
        if order.status not in OPEN:
            break
        order = _cancel_attempt(gateway, attempt)
    return order


def _cancel_attempt(gateway: Gateway, attempt: ExchangeOrder) -> Order:
    by_id = {"exchange_order_id": attempt.exchange_order_id} if attempt.exchange_order_id else {}
    try:
        report = gateway.cancel(symbol=attempt.symbol, **(by_id or {"client_order_id": attempt.client_order_id}))
    except (OrderNotFound, OrderRejected) as error:
        # Not open any more, or not to be cancelled: what became of it, only its state tells. A fill beats a cancel.
        return _ask_after_cancel(gateway, attempt, error)
    except AccountError as error:
        stop_account(attempt.order.account, error)
        return _note_cancel(attempt, error, EventType.CANCEL_UNCONFIRMED)
    except GatewayError as error:
        return _note_cancel(attempt, error, EventType.CANCEL_UNCONFIRMED)
    return durable(lambda: apply_report(attempt, report))


def _ask_after_cancel(gateway: Gateway, attempt: ExchangeOrder, refusal: GatewayError) -> Order:
    try:
        report = ask_for(gateway, attempt)
    except GatewayError as error:
        return _note_cancel(attempt, error, EventType.CANCEL_UNCONFIRMED)
    order = durable(lambda: apply_report(attempt, report))
    return _note_cancel(attempt, refusal, EventType.CANCEL_REFUSED) if order.status in OPEN else order


def _note_cancel(attempt: ExchangeOrder, error: GatewayError, event_type: EventType) -> Order:
    """The order is not known to be canceled: say why, and when it is tried again."""

    def record() -> Order:
        order = attempt.order
        for _ in range(_MAX_TRIES):
            if order.status in CLOSED:
                return order
            pause = timedelta(seconds=pause_after(order, error))
            with transaction.atomic():
                if swap(order, next_check_at=clock.now() + pause, check_count=order.check_count + 1):
                    record_event(
                        order,
                        event_type,
                        actor="worker",
                        previous_status=order.status,
                        details=error_details(attempt, error),
                    ).save(force_insert=True)
                    log.warning("cancel_not_confirmed", **log_fields(order), error=str(error))
                    return order
            order.refresh_from_db()
        return order

    return durable(record)
