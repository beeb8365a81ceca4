"""The sweep over what is not settled: orders never sent, sends without an answer, cancels and trades still missing.

Everything here starts from the database, so a lost message, a flushed broker or a killed worker costs seconds and never
an order. Each order is taken by moving its `next_check_at`, so overlapping sweeps do the work once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from exchanges import clock
from exchanges.errors import AccountError, GatewayError, NotSent, OrderNotFound, OutcomeUnknown
from exchanges.gateway import Gateway, get_gateway
from exchanges.services import settle_reservations
from exchanges.types import OrderReport, to_ms
from orders.book import apply_report, attempt_state, log_fields, open_break, record_event, release_reservation, swap
from orders.cancelling import drive_cancel
from orders.catchup import PAGE, ask_for, fetch_missing_fills
from orders.models import BreakKind, EventType, ExchangeOrder, Order, Outcome
from orders.retry import durable
from orders.services import place_order
from orders.states import CLOSED, OPEN, OrderStatus, next_status
from orders.troubles import back_off, pause_after, stop_account

log = structlog.get_logger(__name__)

BATCH = 200
TIME_BUDGET_SECONDS = 20.0
_TAKEN_FOR = timedelta(seconds=20)  # doing it twice does no harm; a killed sweep must not cost an order its deadline
# An order may be stamped up to a second before the timestamp it was signed with; one more for good measure.
_EARLIER_MS = 2_000
_GAP_LOOKS = 8


def resolve_unconfirmed() -> dict[str, int]:
    """Give every due order its next step; returns how many were looked at and how many moved."""
    stop_at = clock.monotonic() + TIME_BUDGET_SECONDS
    counts = {"looked_at": 0, "changed": 0, "failed": 0}
    unreachable: set[int] = set()
    for order in due_orders():
        if clock.monotonic() > stop_at:
            break
        if order.account_id in unreachable or not _take(order):
            continue
        counts["looked_at"] += 1
        before = order.version
        try:
            order = _next_step(order)
        except GatewayError as error:
            counts["failed"] += 1
            _look_again(order, error)
            if isinstance(error, AccountError):
                stop_account(order.account, error)
            if isinstance(error, NotSent | AccountError | OutcomeUnknown):
                unreachable.add(order.account_id)
        except Exception:
            # One order's trouble must not keep the others waiting.
            counts["failed"] += 1
            log.exception("resolve_failed", **log_fields(order))
        counts["changed"] += order.version != before
    settle_reservations()
    if counts["looked_at"]:
        log.info("unconfirmed_resolved", **counts)
    return counts


def due_orders() -> list[Order]:
    rows = Order.objects.filter(next_check_at__lte=clock.now()).select_related("account").order_by("next_check_at")
    return list(rows[:BATCH])


def _take(order: Order) -> bool:
    """Move the order's next check on, if it is where we read it: one of several sweeps wins."""
    until = clock.now() + _TAKEN_FOR
    taken = Order.objects.filter(pk=order.pk, next_check_at=order.next_check_at, version=order.version)
    if not taken.update(next_check_at=until):
        return False
    order.next_check_at = until
    return True


def _next_step(order: Order) -> Order:
    if order.status == OrderStatus.CREATED:
        return place_order(order.pk, has_turn=True)
    gateway = get_gateway(order.account)
    if order.status == OrderStatus.PENDING_NEW:
        return resolve_order(gateway, order)
    order = _cancel_younger_twin(gateway, order)
    if order.status in OPEN and order.cancel_requested_at is not None:
        order = drive_cancel(gateway, order)
    return _complete_fills(gateway, order)


def _look_again(order: Order, error: GatewayError | None = None, *, at: datetime | None = None) -> None:
    pause = back_off(order) if error is None else pause_after(order, error)
    Order.objects.filter(pk=order.pk, version=order.version).update(
        next_check_at=at or clock.now() + timedelta(seconds=pause), check_count=order.check_count + 1
    )


# -- a send without an answer --------------------------------------------------------------------------------------


def resolve_order(gateway: Gateway, order: Order) -> Order:
    """Settle a PENDING_NEW order: found, proven absent, or asked about again later.

    Absent is a verdict that needs all of: the exchange's own clock, read in this pass, is past the moment until which
    the request could still be executed and become visible; and after that neither the query by client order id nor the
    list of orders from the request's time on knows it. Raises `GatewayError` where a question failed.
    """
    attempt = _pending_attempt(order)
    if attempt is None:
        # Its claim was committed with an attempt; without one there is nothing to ask about, and it may be sent.
        return _back_to_created(order)
    server_ms = gateway.server_time_ms()
    fence_ms = _fence_ms(attempt)
    try:
        report = gateway.fetch_order(symbol=attempt.symbol, client_order_id=attempt.client_order_id)
    except OrderNotFound:
        if server_ms <= fence_ms:
            pause = min(back_off(order), (fence_ms - server_ms) / 1000 + 0.05)
            _look_again(order, at=clock.now() + timedelta(seconds=pause))
            return order
        found = _find_in_history(gateway, attempt)
        if found is None:
            return _settle_absent(attempt, server_ms)
        report = found
    return durable(lambda: apply_report(attempt, report, actor="sweep"))


def _pending_attempt(order: Order) -> ExchangeOrder | None:
    attempt = (
        ExchangeOrder.objects.filter(order=order, outcome__in=[Outcome.IN_FLIGHT, Outcome.UNKNOWN])
        .order_by("-attempt")
        .first()
    )
    if attempt is not None:
        attempt.order = order
    return attempt


def _fence_ms(attempt: ExchangeOrder) -> int:
    """Exchange time after which the request can neither be accepted nor be accepted but invisible."""
    return (
        _timestamp_ms(attempt)
        + int(attempt.recv_window_ms or settings.EXCHANGE_RECV_WINDOW_MS)
        + int(settings.EXCHANGE_ENGINE_TIMEOUT_MS)
        + int(settings.EXCHANGE_READ_LAG_MS)
    )


def _timestamp_ms(attempt: ExchangeOrder) -> int:
    """When the request was signed for; an attempt recovered from the exchange has only the time of its row."""
    if attempt.request_timestamp_ms is not None:
        return attempt.request_timestamp_ms
    return to_ms(attempt.sent_at or attempt.order.created_at)


def _find_in_history(gateway: Gateway, attempt: ExchangeOrder) -> OrderReport | None:
    start_ms, end_ms = _timestamp_ms(attempt) - _EARLIER_MS, _fence_ms(attempt)
    for report in _orders_between(gateway, attempt.symbol, start_ms, end_ms):
        if report.client_order_id == attempt.client_order_id:
            return report
    return None


def _orders_between(gateway: Gateway, symbol: str, start_ms: int, end_ms: int) -> list[OrderReport]:
    """All orders of a window; a full page may hide some, so its window is halved until none is full."""
    page = gateway.fetch_all_orders(symbol=symbol, start_ms=start_ms, end_ms=end_ms, limit=PAGE)
    if len(page) < PAGE:
        return page
    if end_ms <= start_ms:
        raise OutcomeUnknown(f"more than {PAGE} orders within one millisecond")
    middle = (start_ms + end_ms) // 2
    return _orders_between(gateway, symbol, start_ms, middle) + _orders_between(gateway, symbol, middle + 1, end_ms)


def _settle_absent(attempt: ExchangeOrder, server_ms: int) -> Order:
    """Proven absent: sent anew while there is time and no wish to cancel, else closed."""

    def record() -> Order:
        order, now = attempt.order, clock.now()
        with transaction.atomic():
            previous = OrderStatus(order.status)
            changes = _after_absence(order, previous, now)
            if not swap(order, **changes):
                order.refresh_from_db()
                return order
            ExchangeOrder.objects.filter(pk=attempt.pk).update(outcome=Outcome.ABSENT)
            attempt.outcome = Outcome.ABSENT
            release_reservation(attempt)
            record_event(
                order,
                EventType.ABSENT,
                actor="sweep",
                previous_status=previous,
                details={
                    "client_order_id": attempt.client_order_id,
                    "exchange_time_ms": server_ms,
                    "fence_ms": _fence_ms(attempt),
                },
            ).save(force_insert=True)
        log.warning("order_proven_absent", **log_fields(order), client_order_id=attempt.client_order_id)
        return order

    order = durable(record)
    return place_order(order.pk, has_turn=True) if order.status == OrderStatus.CREATED else order


def _after_absence(order: Order, previous: OrderStatus, now: datetime) -> dict[str, Any]:
    if previous != OrderStatus.PENDING_NEW:
        return {}
    if order.cancel_requested_at is not None:
        status, code, reason = OrderStatus.CANCELED, "ABSENT", "the exchange never had it, and a cancel was wished"
    elif order.place_by is None or now >= order.place_by:
        status, code, reason = (
            OrderStatus.NOT_PLACED,
            "NO_ANSWER",
            "its send had no answer, and the exchange never had it",
        )
    else:
        return {"status": next_status(previous, OrderStatus.CREATED), "next_check_at": now, "check_count": 0}
    return {
        "status": next_status(previous, status),
        "reason_code": code,
        "reason": reason,
        "closed_at": now,
        "next_check_at": None,
    }


def _back_to_created(order: Order) -> Order:
    with transaction.atomic():
        if swap(order, status=next_status(OrderStatus(order.status), OrderStatus.CREATED), next_check_at=clock.now()):
            record_event(order, EventType.WAITING, actor="sweep", previous_status=OrderStatus.PENDING_NEW).save(
                force_insert=True
            )
            return order
    order.refresh_from_db()
    return order


# -- what an open or closed order may still lack -------------------------------------------------------------------


def _cancel_younger_twin(gateway: Gateway, order: Order) -> Order:
    """Two live attempts of one intent: the younger goes."""
    if order.attempt < 2 or order.status not in OPEN:
        return order
    attempts = ExchangeOrder.objects.filter(order=order, outcome=Outcome.ACKNOWLEDGED).order_by("attempt")
    alive = [attempt for attempt in attempts if attempt_state(attempt).is_alive]
    for attempt in alive[1:]:
        attempt.order = order
        try:
            report = gateway.cancel(symbol=attempt.symbol, exchange_order_id=attempt.exchange_order_id)
        except OrderNotFound:
            report = ask_for(gateway, attempt)
        order = durable(lambda attempt=attempt, report=report: apply_report(attempt, report, actor="sweep"))  # type: ignore[misc]
    return order


def _complete_fills(gateway: Gateway, order: Order) -> Order:
    for attempt in ExchangeOrder.objects.filter(order=order).exclude(exchange_order_id=""):
        if not attempt_state(attempt).has_fill_gap:
            continue
        attempt.order = order
        order = fetch_missing_fills(gateway, attempt)
        if attempt_state(attempt).has_fill_gap:
            if order.check_count >= _GAP_LOOKS:
                open_break(order, BreakKind.FILL_GAP, subject=attempt.client_order_id, details={})
            _look_again(order)
            return order
    return _nothing_left(order)


def _nothing_left(order: Order) -> Order:
    if order.status in CLOSED or (order.status in OPEN and order.cancel_requested_at is None):
        Order.objects.filter(pk=order.pk, version=order.version).update(next_check_at=None, check_count=0)
    return order
