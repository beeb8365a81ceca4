"""Cancel orders: unsent ones here, open ones at the exchange, and those in flight once resolved.

Only the exchange's answer makes an open order CANCELED, and a fill beats a cancel.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from django.db import transaction

from exchanges import clock
from exchanges.acts import is_person_acting, record_act
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.errors import AccountError, GatewayError, OrderNotFound, OrderRejected
from exchanges.key_holders import PATIENCE_SECONDS, ask_a_worker, must_ask
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport
from orders.accounts import account_named
from orders.intents import invalid, parse_note
from orders.models import AttemptOutcome, EventType, ExchangeOrder, Order
from orders.placing.backoff import one_more, pause_after
from orders.placing.intent_order import find_order
from orders.placing.outcomes import error_details, stop_account
from orders.placing.record import cancel_unsent
from orders.reconciliation.questions import ask_for
from orders.recording.apply import apply_report
from orders.recording.changes import Change, TooMuchContention, change_order, log_fields
from orders.states import CLOSED, OPEN

log = structlog.get_logger(__name__)

DRIVE_CANCELS = "orders.drive_cancels"


def cancel_order(
    *,
    account: str,
    intent_id: str,
    requested_by: str = "",
    reason: str = "",
    claimed_by: str = "",
) -> Order:
    """Cancel an order by its intent. Return it as it is known then.

    An unsent order is canceled here. An order in flight keeps the cancel request until it is
    resolved. An open order is canceled at the exchange at once, or after the commit of a caller's
    transaction, and only its answer makes the order CANCELED. If anything fails, the request stays
    recorded and the sweep tries again. Needs no broker. Raises `InvalidIntent` for an unknown
    account or intent.
    """
    requested_by = parse_note("requested_by", requested_by, longest=150)
    reason = parse_note("reason", reason, longest=1000)
    claimed_by = parse_note("requested_by", claimed_by, longest=150)
    owner = account_named(account)
    order = find_order(owner, intent_id)
    if order is None:
        raise invalid("intent_id", f"account {account!r} has no order with intent {intent_id!r}")
    order = request_cancel(order, requested_by=requested_by, reason=reason, claimed_by=claimed_by)
    if order.status not in OPEN:
        return order
    if is_in_transaction():
        transaction.on_commit(partial(_cancel_committed, owner, order.pk), robust=True)
        return order
    return _drive(owner, order)


def is_in_transaction() -> bool:
    """Return whether a transaction is open that a test's own frame did not begin."""
    blocks = transaction.get_connection().atomic_blocks
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


def _cancel_committed(owner: ExchangeAccount, order_id: UUID) -> None:
    order = Order.objects.get(pk=order_id)
    if order.status in OPEN:
        _drive(owner, order)


def _drive(owner: ExchangeAccount, order: Order) -> Order:
    try:
        if must_ask(owner):
            ask_a_worker(DRIVE_CANCELS, [str(order.pk)], PATIENCE_SECONDS)
            return Order.objects.get(pk=order.pk)
        return drive_cancel(get_gateway(owner), order)
    except GatewayError as error:
        log.warning("cancel_deferred", **log_fields(order), error=str(error))
        return order


def request_cancel(order: Order, *, requested_by: str, reason: str, claimed_by: str = "") -> Order:
    """Record a cancel request, and cancel an order that was never sent at once.

    `claimed_by` is the name that a message gives. It is unverified.
    Raises `TooMuchContention` if the request could not be recorded.
    """

    def record() -> None:
        record_cancels([order], requested_by=requested_by, reason=reason)

    def decide(order: Order) -> Change | None:
        if order.status in CLOSED or order.cancel_requested_at is not None:
            return None
        return Change(
            fields={
                "cancel_requested_at": clock.now(),
                "cancel_requested_by": requested_by,
                "next_check_at": order.next_check_at or clock.now(),
            },
            event_type=EventType.CANCEL_REQUESTED,
            actor=requested_by,
            details={"reason": reason} | ({"claimed_by": claimed_by} if claimed_by else {}),
            also=record if is_person_acting() else None,
            log_event="cancel_requested",
            log_details={"requested_by": requested_by, "reason": reason},
        )

    return cancel_unsent(change_order(order, decide))


def record_cancels(orders: Iterable[Order], *, requested_by: str, reason: str) -> None:
    """Record that a person asked to cancel these orders, one act for each."""
    for order in orders:
        record_act(
            "cancel",
            actor=requested_by,
            subject=f"order:{order.pk}",
            account=order.account.name,
            reason=reason,
            before={"status": order.status},
            after={"intent_id": order.intent_id},
        )


def drive_cancel(gateway: Gateway, order: Order) -> Order:
    """Ask the exchange to cancel an open order and record the answer.

    The sweep tries again if the order stays open.
    """
    attempts = list(
        ExchangeOrder.objects.filter(order=order, outcome=AttemptOutcome.ACKNOWLEDGED).order_by(
            "attempt"
        )
    )
    for attempt in attempts:
        attempt.order = order
        if order.status not in OPEN:
            break
        order = _cancel_attempt(gateway, attempt)
    return order


def cancel_attempt(gateway: Gateway, attempt: ExchangeOrder) -> OrderReport:
    """Ask the exchange to cancel this attempt's order. Raises `GatewayError`.

    By number and by client order id, because after a reset the number may be another order's.
    """
    name = attempt.amended_client_order_id or attempt.client_order_id
    return gateway.cancel(
        symbol=attempt.symbol,
        client_order_id=name,
        exchange_order_id=attempt.exchange_order_id or None,
    )


def _cancel_attempt(gateway: Gateway, attempt: ExchangeOrder) -> Order:
    try:
        report = cancel_attempt(gateway, attempt)
    except (OrderNotFound, OrderRejected) as error:
        # The order is closed or can't be canceled. Only its state says which, because a fill beats
        # a cancel.
        return _ask_after_cancel(gateway, attempt, error)
    except AccountError as error:
        stop_account(attempt.order.account, error)
        return _note_cancel(attempt, error, EventType.CANCEL_UNCONFIRMED)
    except GatewayError as error:
        return _note_cancel(attempt, error, EventType.CANCEL_UNCONFIRMED)
    return apply_report(attempt, report)


def _ask_after_cancel(gateway: Gateway, attempt: ExchangeOrder, refusal: GatewayError) -> Order:
    try:
        report = ask_for(gateway, attempt)
    except GatewayError as error:
        return _note_cancel(attempt, error, EventType.CANCEL_UNCONFIRMED)
    order = apply_report(attempt, report)
    return (
        _note_cancel(attempt, refusal, EventType.CANCEL_REFUSED) if order.status in OPEN else order
    )


def _note_cancel(attempt: ExchangeOrder, error: GatewayError, event_type: EventType) -> Order:
    """Record why the order is not known to be canceled, and when to try again."""

    def decide(order: Order) -> Change | None:
        if order.status in CLOSED:
            return None
        pause = timedelta(seconds=pause_after(order, error))
        return Change(
            fields={"next_check_at": clock.now() + pause, "check_count": one_more(order)},
            event_type=event_type,
            actor="worker",
            details=error_details(attempt, error),
            log_event="cancel_not_confirmed",
            log_level="warning",
            log_details={"error": str(error)},
        )

    try:
        return change_order(attempt.order, decide)
    except TooMuchContention:
        # The cancel request itself is stored and due, so the sweep tries again.
        log.exception("cancel_not_noted", **log_fields(attempt.order))
        return attempt.order
