"""The verbs that tasks, sweeps, the admin and the commands call: submit and place, here; cancel, in `cancelling.py`.

Claim and commit, call the exchange, record: never a transaction across a call. The writers of what the exchange says
are in `book.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction

from exchanges import clock
from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.gateway import TIMESTAMP_REFUSED, Gateway, get_gateway
from exchanges.models import ExchangeAccount
from exchanges.services import (
    ensure_balances,
    ensure_instruments,
    ensure_last_price,
    halt_trading,
    pause_symbol,
    refresh_balances,
    refresh_symbol,
)
from orders import memory
from orders.accounts import account_named, forget_account, known_account
from orders.book import (
    apply_fill,
    apply_fills,
    apply_refusal,
    apply_report,
    log_fields,
    open_account_break,
    record_event,
    release_reservation,
    swap,
)
from orders.cancelling import cancel_order, drive_cancel, request_cancel, withdraw
from orders.catchup import ensure_synced
from orders.claims import (
    AccountReplaced,
    Claim,
    Conditions,
    Remedy,
    RemedyNeeded,
    claim_new,
    claim_stored,
    new_order,
    require_same_intent,
)
from orders.history import ensure_caught_up
from orders.intents import Intent
from orders.models import BreakKind, EventType, ExchangeOrder, Order, Outcome
from orders.results import order_result
from orders.retry import durable
from orders.risk_limits import PRICE_ASKED_WITHIN
from orders.states import OPEN, OrderStatus, next_status
from orders.troubles import back_off, error_details, pause_after, stop_account

log = structlog.get_logger(__name__)

_MAX_TRIES = 50
MARKET_CLOSED = "Market is closed"


def submit_order(intent: Intent) -> Order:
    """One hop: validate against the book, record with the claim, send, record the answer.

    Returns the order as it is known then: acknowledged, closed, or PENDING_NEW where the outcome is unknown. Raises
    `InvalidIntent` for an unknown account and `IntentConflict`; nothing is recorded then.
    """
    try:
        return _submit(intent, known_account(intent.account))
    except AccountReplaced:
        forget_account(intent.account)
        return _submit(intent, known_account(intent.account))


def _submit(intent: Intent, account: ExchangeAccount) -> Order:
    started_at = clock.now()
    return _drive(
        account,
        intent.symbol,
        claim=lambda conditions: _claim_new(intent, conditions),
        park=lambda reason, retry_after: _park_new(intent, account, started_at, reason, retry_after),
    )


def place_order(order_id: UUID, *, has_turn: bool = False) -> Order:
    """Drive a stored order: send it if it is CREATED and its deadline lasts; any other order is returned as it is.

    A message is a doorbell, which may ring twice or late: an order that was put off (the exchange named a time, a
    question failed) is left to the sweep, which drives it when its turn has come (`has_turn`).
    """
    order = Order.objects.select_related("account").get(pk=order_id)
    if order.status != OrderStatus.CREATED:
        return order
    account = order.account
    if order.cancel_requested_at is not None:
        return withdraw(order)
    if not has_turn and order.check_count > 0 and order.next_check_at is not None and order.next_check_at > clock.now():
        return order
    return _drive(
        account,
        order.symbol,
        claim=lambda conditions: claim_stored(order, account.name, conditions),
        park=lambda reason, retry_after: _park(order, reason, retry_after),
    )


def record_order(intent: Intent) -> tuple[Order, bool]:
    """Record an intent as CREATED in the caller's transaction; the order, and whether it is new."""
    account = account_named(intent.account)
    known = Order.objects.filter(account=account, intent_id=intent.intent_id).first()
    if known is None:
        order = new_order(intent, account.pk, clock.now())
        # The message that follows the commit sends it; if that is lost, the sweep does.
        order.next_check_at = clock.now() + timedelta(seconds=settings.RESOLVE_INTERVAL_SECONDS)
        try:
            with transaction.atomic():
                order.save(force_insert=True)
                record_event(order, EventType.CREATED, actor=intent.strategy or "orchestrator").save(force_insert=True)
            return order, True
        except IntegrityError:
            known = Order.objects.get(account=account, intent_id=intent.intent_id)
    require_same_intent(known, intent)
    return known, False


def _claim_new(intent: Intent, conditions: Conditions) -> Claim | Order:
    try:
        return claim_new(intent, conditions)
    except IntegrityError:
        # Another worker has recorded this intent, or recovered its order, in the same moment: it is found now.
        return claim_new(intent, conditions)


def _drive(
    account: ExchangeAccount,
    symbol: str,
    *,
    claim: Callable[[Conditions], Claim | Order],
    park: Callable[[str, float | None], Order],
) -> Order:
    """Claim and send; first fetch what the gate lacks. What cannot be fetched now parks the order until later."""
    started_at, remedied, signed_at = clock.now(), frozenset[Remedy](), clock.monotonic()
    try:
        gateway = get_gateway(account)
        while True:
            signed_at = clock.monotonic()
            conditions = Conditions(account.pk, account.environment, gateway.now_ms(), started_at, remedied)
            try:
                claimed = durable(lambda conditions=conditions: claim(conditions))  # type: ignore[misc]
            except RemedyNeeded as needed:
                if needed.remedy in remedied:
                    raise NotSent(f"{needed.remedy.value} is still missing") from None
                _remedy(needed.remedy, account, symbol, started_at)
                remedied |= {needed.remedy}
                continue
            break
    except AccountError as error:
        stop_account(account, error)
        return park(str(error), None)
    except GatewayError as error:
        return park(f"{type(error).__name__}: {error}", getattr(error, "retry_after", None))
    if isinstance(claimed, Order):
        return claimed
    sent = _send(gateway, account, claimed, signed_at)
    _read_balances_ahead(account, claimed)
    return sent


def _read_balances_ahead(account: ExchangeAccount, claim: Claim) -> None:
    """Balances that will soon be too old are read when an order is through, so that the next ones need not wait."""
    soon = clock.now() - timedelta(seconds=settings.BALANCE_MAX_AGE_SECONDS / 2)
    if claim.balances_at is not None and claim.balances_at < soon:
        refresh_balances(account, newer_than=soon)


def _remedy(remedy: Remedy, account: ExchangeAccount, symbol: str, started_at: datetime) -> None:
    log.info("gate_needs", account=account.name, symbol=symbol, remedy=remedy.value)
    if remedy is Remedy.INSTRUMENTS:
        ensure_instruments(account)
    elif remedy is Remedy.SYNC:
        ensure_synced(account)
    elif remedy is Remedy.CATCH_UP:
        ensure_caught_up(account, symbol, trusted_since=memory.trusted_since())
    elif remedy is Remedy.PRICE:
        ensure_last_price(account, symbol, newer_than=started_at - PRICE_ASKED_WITHIN)
    elif remedy is Remedy.SYMBOL:
        refresh_symbol(account, symbol)
    else:
        _have_balances(account, started_at)


def _have_balances(account: ExchangeAccount, started_at: datetime) -> None:
    """An order waits for a newer figure; where none was ever known, the gate denies it instead of guessing."""
    try:
        ensure_balances(account, newer_than=started_at)
    except (NotSent, OutcomeUnknown):
        if ExchangeAccount.objects.filter(pk=account.pk, balances_synced_at__isnull=False).exists():
            raise


def _send(gateway: Gateway, account: ExchangeAccount, claim: Claim, signed_at: float) -> Order:
    """Send the claimed request once and record what is known of it then."""
    order, attempt = claim.order, claim.attempt
    memory.remember(account.name, attempt.client_order_id)
    log.debug("order_claimed", **log_fields(order), client_order_id=attempt.client_order_id)
    try:
        report = gateway.place(claim.request())
    except OrderRejected as error:
        _clock_refused_at.pop(account.name, None)
        code, message = str(error.code or ""), error.message
        refused = durable(lambda: apply_refusal(attempt, code=code, message=message))
        if message.startswith(MARKET_CLOSED):
            _pause(account, refused.symbol)
        return refused
    except DuplicateOrder as error:
        return _adopt_duplicate(gateway, attempt, error)
    except AccountError as error:
        stop_account(account, error)
        return _record_not_sent(attempt, error)
    except NotSent as error:
        _judge_clock(account, error, signed_at)
        return _record_not_sent(attempt, error)
    except OutcomeUnknown as error:
        return _record_unknown(attempt, error)
    except Exception as error:
        # A defect of ours after the bytes may have left: as unknown as a time-out. Never sent again blindly.
        log.exception("place_failed", **log_fields(order))
        return _record_unknown(attempt, OutcomeUnknown(f"internal error: {type(error).__name__}"))
    _clock_refused_at.pop(account.name, None)
    recorded = durable(lambda: apply_report(attempt, report))
    if recorded.cancel_requested_at is not None and recorded.status in OPEN:
        return drive_cancel(gateway, recorded)
    return recorded


def _pause(account: ExchangeAccount, symbol: str) -> None:
    try:
        pause_symbol(account, symbol)
    except GatewayError as error:
        log.warning("symbol_not_read", account=account.name, symbol=symbol, error=str(error))


_clock_refused_at: dict[str, float] = {}


def _judge_clock(account: ExchangeAccount, error: NotSent, signed_at: float) -> None:
    """Our time was refused: it is measured anew. Refused again after that, something is wrong that a person must mend.

    A request that was held up until its window had passed says nothing about the clock.
    """
    now = clock.monotonic()
    if error.code != TIMESTAMP_REFUSED or (now - signed_at) * 1000 > settings.EXCHANGE_RECV_WINDOW_MS / 2:
        return
    refused_at = _clock_refused_at.setdefault(account.name, now)
    if signed_at <= refused_at:
        return
    del _clock_refused_at[account.name]
    message = "the exchange refuses our time although it was measured anew"
    halt_trading(account=account, reason=message, actor="exchange")
    open_account_break(
        account.pk, BreakKind.ACCOUNT_REFUSED, subject=account.name, details={"code": error.code, "message": message}
    )


def _adopt_duplicate(gateway: Gateway, attempt: ExchangeOrder, error: DuplicateOrder) -> Order:
    """The exchange has an open order under this id: it is this intent's; ask for it and take it."""
    _record_unknown(attempt, error, event_type=EventType.DUPLICATE)
    try:
        report = gateway.fetch_order(symbol=attempt.symbol, client_order_id=attempt.client_order_id)
    except GatewayError:
        return attempt.order  # the sweep asks again
    return durable(lambda: apply_report(attempt, report))


def _record_unknown(
    attempt: ExchangeOrder, error: GatewayError, *, event_type: EventType = EventType.OUTCOME_UNKNOWN
) -> Order:
    """No trustworthy answer: the order stays PENDING_NEW and is asked about from now on."""
    return _record_outcome(attempt, Outcome.UNKNOWN, error, event_type, status=None, next_check_at=clock.now())


def _record_not_sent(attempt: ExchangeOrder, error: GatewayError) -> Order:
    """Certainly not executed: back to CREATED, or withdrawn where a cancel was wished meanwhile."""
    pause = pause_after(attempt.order, error)
    next_check_at = clock.now() + timedelta(seconds=pause)
    return _record_outcome(
        attempt, Outcome.NOT_SENT, error, EventType.NOT_SENT, status=OrderStatus.CREATED, next_check_at=next_check_at
    )


def _record_outcome(
    attempt: ExchangeOrder,
    outcome: Outcome,
    error: GatewayError,
    event_type: EventType,
    *,
    status: OrderStatus | None,
    next_check_at: datetime,
) -> Order:
    def record() -> Order:
        order = attempt.order
        for _ in range(_MAX_TRIES):
            with transaction.atomic():
                previous = OrderStatus(order.status)
                changes: dict[str, Any] = {}
                # A sender that was overtaken (resolved, sent anew) reports on its attempt alone.
                if previous == OrderStatus.PENDING_NEW and order.attempt == attempt.attempt:
                    changes = {"next_check_at": next_check_at, "check_count": order.check_count + 1}
                    if status is not None:
                        changes["status"] = next_status(previous, status)
                if swap(order, **changes):
                    current = ExchangeOrder.objects.filter(pk=attempt.pk, outcome=Outcome.IN_FLIGHT)
                    if current.update(outcome=outcome) and outcome == Outcome.NOT_SENT:
                        release_reservation(attempt)
                    attempt.outcome = outcome
                    record_event(
                        order,
                        event_type,
                        actor="worker",
                        previous_status=previous,
                        details=error_details(attempt, error),
                    ).save(force_insert=True)
                    break
            order.refresh_from_db()
        log.warning("order_not_acknowledged", **log_fields(order), outcome=str(outcome), error=str(error))
        if order.status == OrderStatus.CREATED and order.cancel_requested_at is not None:
            return withdraw(order)
        return order

    return durable(record)


def _park_new(
    intent: Intent, account: ExchangeAccount, started_at: datetime, reason: str, retry_after: float | None
) -> Order:
    """What the gate needs cannot be had now: record the intent as CREATED; the sweep drives it."""
    order, _ = durable(lambda: record_order(intent))
    if order.status != OrderStatus.CREATED:
        return order
    return _park(order, reason, retry_after)


def _park(order: Order, reason: str, retry_after: float | None) -> Order:
    def record() -> Order:
        with transaction.atomic():
            pause = timedelta(seconds=max(retry_after or 0.0, back_off(order)))
            if order.status == OrderStatus.CREATED and swap(
                order, next_check_at=clock.now() + pause, check_count=order.check_count + 1
            ):
                record_event(
                    order, EventType.WAITING, actor="gate", previous_status=order.status, details={"reason": reason}
                ).save(force_insert=True)
                log.warning("order_waits", **log_fields(order), reason=reason, seconds=pause.total_seconds())
        return order

    return durable(record)


__all__ = [
    "apply_fill",
    "apply_fills",
    "apply_report",
    "cancel_order",
    "order_result",
    "place_order",
    "record_event",
    "record_order",
    "request_cancel",
    "submit_order",
]
