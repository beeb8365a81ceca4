"""The verbs: submit, place, cancel. Claim and commit, call the exchange, record: never a transaction across a call.

Tasks, sweeps, the admin and the commands all call these. The writers of what the exchange says are in `book.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    OrderNotFound,
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
    refresh_symbol,
)
from orders import memory
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
from orders.catchup import ask_for, ensure_synced
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
from orders.intents import Intent, invalid, parse_note
from orders.models import BreakKind, EventType, ExchangeOrder, Order, Outcome
from orders.results import order_result
from orders.retry import durable
from orders.risk_limits import PRICE_ASKED_WITHIN
from orders.states import CLOSED, OPEN, UNSETTLED, OrderStatus, next_status

log = structlog.get_logger(__name__)

_MAX_TRIES = 50
MARKET_CLOSED = "Market is closed"
# Pause before an order is looked at again, by the number of looks so far.
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_UNSETTLED_PAUSE = 4.0


# -- placing -------------------------------------------------------------------------------------------------------


def submit_order(intent: Intent) -> Order:
    """One hop: validate against the book, record with the claim, send, record the answer.

    Returns the order as it is known then: acknowledged, closed, or PENDING_NEW where the outcome is unknown. Raises
    `InvalidIntent` for an unknown account and `IntentConflict`; nothing is recorded then.
    """
    try:
        return _submit(intent, _known_account(intent.account))
    except AccountReplaced:
        _accounts.pop(intent.account, None)
        return _submit(intent, _known_account(intent.account))


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
        return _withdraw(order)
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


_accounts: dict[str, tuple[float, ExchangeAccount]] = {}
_KEEP_ACCOUNT_SECONDS = 5.0


def _known_account(name: str) -> ExchangeAccount:
    """The account as it was some seconds ago: only its name and environment are used, which never change.

    What may change, the gate reads from the row itself, in the claim's transaction.
    """
    found = _accounts.get(name)
    if found is not None and clock.monotonic() - found[0] < _KEEP_ACCOUNT_SECONDS:
        return found[1]
    account = account_named(name)
    _accounts[name] = (clock.monotonic(), account)
    return account


def account_named(name: str) -> ExchangeAccount:
    try:
        return ExchangeAccount.objects.get(name=name)
    except ExchangeAccount.DoesNotExist:
        raise invalid("account", f"there is no account named {name!r}") from None


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
    return _send(gateway, account, claimed, signed_at)


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
                        details=_error_details(attempt, error),
                    ).save(force_insert=True)
                    break
            order.refresh_from_db()
        log.warning("order_not_acknowledged", **log_fields(order), outcome=str(outcome), error=str(error))
        if order.status == OrderStatus.CREATED and order.cancel_requested_at is not None:
            return _withdraw(order)
        return order

    return durable(record)


def _error_details(attempt: ExchangeOrder, error: GatewayError) -> dict[str, Any]:
    return {
        "client_order_id": attempt.client_order_id,
        "error": type(error).__name__,
        "code": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "retry_after": getattr(error, "retry_after", None),
    }


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


def pause_after(order: Order, error: GatewayError) -> float:
    """Seconds until the next step: what was asked for, and growing pauses where it was the exchange that failed.

    A shared limit or breaker of ours names the very moment from which it lets requests pass: to wait longer for each
    time it was asked would cost an order its deadline.
    """
    asked = getattr(error, "retry_after", None)
    if asked is not None and error.http_status is None:
        return float(asked) * random.uniform(1.0, 1.2)
    return max(asked or 0.0, back_off(order))


def back_off(order: Order) -> float:
    """Seconds to wait by the number of looks so far; short while the order has a deadline or an unknown outcome."""
    pause = _BACK_OFF[min(order.check_count, len(_BACK_OFF) - 1)]
    return min(pause, _UNSETTLED_PAUSE) if order.status in UNSETTLED else pause


def stop_account(account: ExchangeAccount, error: AccountError) -> None:
    """The exchange refuses the key or the account: nothing of it will pass until a person has looked.

    A key that this very process lacks (no answer, no status) says nothing about the account: other workers may have it.
    """
    if error.http_status is None:
        return
    halt_trading(account=account, reason=f"refused by the exchange: {error}"[:500], actor="exchange")
    open_account_break(
        account.pk,
        BreakKind.ACCOUNT_REFUSED,
        subject=account.name,
        details={"code": error.code, "message": error.message},
    )


@contextmanager
def stopping_refused(account: ExchangeAccount) -> Iterator[None]:
    """Questions about the account whose refusal stops it, as that of an order does."""
    try:
        yield
    except AccountError as error:
        stop_account(account, error)
        raise


# -- cancelling ----------------------------------------------------------------------------------------------------


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
        return _withdraw(order) if order.status == OrderStatus.CREATED else order

    return durable(record)


def _withdraw(order: Order) -> Order:
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
                        details=_error_details(attempt, error),
                    ).save(force_insert=True)
                    log.warning("cancel_not_confirmed", **log_fields(order), error=str(error))
                    return order
            order.refresh_from_db()
        return order

    return durable(record)


__all__ = [
    "apply_fill",
    "apply_fills",
    "apply_report",
    "back_off",
    "cancel_order",
    "drive_cancel",
    "order_result",
    "pause_after",
    "place_order",
    "record_event",
    "record_order",
    "request_cancel",
    "submit_order",
]
