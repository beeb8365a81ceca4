"""Record the consequences of each error that can end a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.binance.gateway import TIMESTAMP_REFUSED
from exchanges.errors import AccountError, GatewayError, NotSent, OrderRejected
from exchanges.models import ExchangeAccount, TradingState
from exchanges.trading_state import halt_by_rule, halt_trading
from exchanges.types import ExchangeStatus
from orders.models import AttemptOutcome, BreakKind, EventType, ExchangeOrder, Order
from orders.placing.backoff import one_more, pause_after
from orders.placing.record import cancel_unsent
from orders.recording.apply import release_reservation, states_of_all_attempts
from orders.recording.breaks import open_account_break
from orders.recording.changes import (
    Change,
    TooMuchContention,
    change_order,
    log_fields,
    reload_attempt,
)
from orders.recording.plan import PENDING, attempt_state, order_state
from orders.states import UNRESOLVED, OrderStatus

log = structlog.get_logger(__name__)


clock_refused_at: dict[str, float] = {}


def judge_clock(account: ExchangeAccount, error: NotSent, signed_at: float) -> None:
    """Halt the account if the exchange refuses our time again after we have measured it again.

    A request that was delayed until its window had passed says nothing about the clock.
    """
    now = clock.monotonic()
    if (
        error.code != TIMESTAMP_REFUSED
        or (now - signed_at) * 1000 > settings.EXCHANGE_RECV_WINDOW_MS / 2
    ):
        return
    refused_at = clock_refused_at.setdefault(account.name, now)
    if signed_at <= refused_at:
        return
    del clock_refused_at[account.name]
    message = "the exchange refuses our time, even after measuring it again"
    halt_trading(account=account, reason=message, actor="exchange")
    open_account_break(
        account.pk,
        BreakKind.ACCOUNT_REFUSED,
        subject=account.name,
        details={"code": error.code, "message": message},
    )


def record_unknown(
    attempt: ExchangeOrder,
    error: GatewayError,
    *,
    event_type: EventType = EventType.OUTCOME_UNKNOWN,
) -> Order:
    """Record that no trustworthy answer came: the order stays PENDING_NEW, and is due now."""
    return _record_outcome(
        attempt, AttemptOutcome.UNKNOWN, error, event_type, next_check_at=clock.now()
    )


def record_not_sent(attempt: ExchangeOrder, error: GatewayError) -> Order:
    """Record that the request was certainly not executed.

    The order goes back to CREATED, or is canceled if that was requested meanwhile.
    """
    pause = pause_after(attempt.order, error)
    next_check_at = clock.now() + timedelta(seconds=pause)
    return _record_outcome(
        attempt,
        AttemptOutcome.NOT_SENT,
        error,
        EventType.NOT_SENT,
        next_check_at=next_check_at,
    )


def record_refused(attempt: ExchangeOrder, error: OrderRejected) -> Order:
    """Record that rules refused the request which may have changed since we read them.

    The order goes back to CREATED with the exchange's words, and is due now: the rules are read,
    and `orders.placing.judge_again` decides.
    """
    words = {"reason_code": str(error.code or ""), "reason": error.message}
    return _record_outcome(
        attempt,
        AttemptOutcome.NOT_SENT,
        error,
        EventType.NOT_SENT,
        next_check_at=clock.now(),
        words=words,
    )


def _record_outcome(
    attempt: ExchangeOrder,
    outcome: AttemptOutcome,
    error: GatewayError,
    event_type: EventType,
    *,
    next_check_at: datetime,
    words: Mapping[str, str] | None = None,
) -> Order:
    is_ending = False

    def decide(order: Order) -> Change:
        nonlocal is_ending
        # A sender that was overtaken (resolved, reported by the stream) only notes its outcome.
        is_ending = attempt.outcome in PENDING
        fields = _pending_fields(attempt, outcome, next_check_at) if is_ending else {}
        if words is not None and fields.get("status") == OrderStatus.CREATED:
            fields |= words
        return Change(
            fields=fields,
            event_type=event_type,
            actor="worker",
            details=error_details(attempt, error),
            also=partial(_end_attempt, attempt, outcome) if is_ending else None,
            log_event="order_not_acknowledged",
            log_level="warning",
            log_details={"outcome": str(outcome), "error": str(error)},
        )

    try:
        order = change_order(attempt.order, decide, reload=partial(reload_attempt, attempt))
        if is_ending:
            attempt.outcome = outcome
        if order.status == OrderStatus.CREATED and order.cancel_requested_at is not None:
            return cancel_unsent(order)
    except TooMuchContention:
        # The order stays in flight and due, so the sweep resolves it. An error here would make the
        # caller believe that its order failed.
        log.exception("outcome_not_recorded", **log_fields(attempt.order), outcome=str(outcome))
        return attempt.order
    return order


def _pending_fields(
    attempt: ExchangeOrder, outcome: AttemptOutcome, next_check_at: datetime
) -> dict[str, Any]:
    order = attempt.order
    state = replace(attempt_state(attempt), is_pending=outcome in PENDING)
    if outcome == AttemptOutcome.NOT_SENT and state.is_refused:
        state = replace(state, exchange_status="")  # the stream has reported this refusal already
    fields = order_state(order, states_of_all_attempts(attempt, state), now=clock.now())
    is_current = attempt.attempt == order.attempt
    if is_current and (fields["status"] in UNRESOLVED or fields["open_attempts"]):
        fields |= {"next_check_at": next_check_at, "check_count": one_more(order)}
    return fields


def _end_attempt(attempt: ExchangeOrder, outcome: AttemptOutcome) -> None:
    """Store the outcome of a pending attempt, and free its money if it was not sent."""
    rows = ExchangeOrder.objects.filter(pk=attempt.pk)
    rows.update(outcome=outcome)
    if outcome == AttemptOutcome.NOT_SENT:
        rows.filter(exchange_status=ExchangeStatus.REJECTED).update(exchange_status="")
        release_reservation(attempt)


def stop_account(account: ExchangeAccount, error: AccountError) -> None:
    """Halt the account because the exchange refuses its key: a person must look at it.

    A halted account keeps its reason, because its sync goes on and meets the refusal again and
    again. An error without an HTTP status means that this process lacks the key. That says nothing
    about the account, because other workers may have it.
    """
    if error.http_status is None:
        return
    if not _is_halted(account):
        reason = f"refused by the exchange: {error}"[:500]
        halt_by_rule(account=account, reason=reason, actor="exchange")
    open_account_break(
        account.pk,
        BreakKind.ACCOUNT_REFUSED,
        subject=account.name,
        details={"code": error.code, "message": error.message},
    )


def _is_halted(account: ExchangeAccount) -> bool:
    """Return whether the account is halted in the database, without holding up any claim."""
    halted = ExchangeAccount.objects.filter(pk=account.pk, trading_state=TradingState.HALTED)
    return halted.exists()


@contextmanager
def stopping_refused(account: ExchangeAccount) -> Iterator[None]:
    """Halt the account if the exchange refuses it inside this block, and raise the error again."""
    try:
        yield
    except AccountError as error:
        stop_account(account, error)
        raise


def error_details(attempt: ExchangeOrder, error: GatewayError) -> dict[str, Any]:
    return {
        "client_order_id": attempt.client_order_id,
        "error": type(error).__name__,
        "code": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "retry_after": getattr(error, "retry_after", None),
    }
