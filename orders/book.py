"""The only writer of what the exchange says: reports and fills into orders, with an event for each change.

Every write is a compare-and-swap on `Order.version`: the new state is computed from what was read, and stored only if
nobody has changed the order meanwhile; else it is read again. So no row is locked while anything is computed or
fetched, it works alike on PostgreSQL and SQLite, and the placing path can record an answer without reading the order
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Model

from exchanges import clock, reservations, rows
from exchanges.rows import Insert, Update, Write
from exchanges.types import EXACT, ExchangeStatus, FillReport, OrderReport, ReportSource, Side, plain
from orders import notices
from orders.merge import AttemptState, Merge, average_price, merge_report, settle
from orders.models import BreakKind, EventType, ExchangeOrder, Fill, Order, OrderEvent, Outcome, ReconciliationBreak
from orders.states import CLOSED, OPEN, OrderStatus, next_status

log = structlog.get_logger(__name__)

FILLS_GRACE = timedelta(seconds=1)  # the stream usually brings a missing trade before we would ask for it
_MAX_TRIES = 50


class TooMuchContention(RuntimeError):
    """The order changed under us again and again; the sweep comes back to it."""


def record_event(
    order: Order,
    event_type: EventType,
    *,
    actor: str,
    previous_status: str = "",
    source: str = "",
    details: Mapping[str, Any] | None = None,
) -> OrderEvent:
    """An event for the order as it is now, not saved yet: the caller stores it in the transaction of the change."""
    return OrderEvent(
        order=order,
        event_type=event_type,
        at=clock.now(),
        actor=actor,
        previous_status=previous_status,
        new_status=order.status,
        source=source,
        details=dict(details or {}),
    )


def swap(order: Order, *, tell: bool = False, **changes: Any) -> bool:
    """Store `changes` if the order is still at the version we read; True if so. Call it inside a transaction.

    What a bot must react to is noted for it; `tell`: also where neither status nor filled quantity change.
    """
    changes["version"] = order.version + 1
    if rows.write(own_version(order, changes)) == [0]:
        return False
    _take_over(order, changes, tell=tell)
    return True


def own_version(order: Order, changes: Mapping[str, Any]) -> Update:
    """The write of `changes` (with the next version) if the order is still at the version we read."""
    return Update(Order, {"id": order.pk, "version": order.version}, changes)


def _take_over(order: Order, changes: Mapping[str, Any], *, tell: bool = False) -> None:
    before = (order.status, order.filled_quantity)
    _set(order, changes)
    if tell or notices.is_news(*before, order):
        notices.note_change(order)


def open_break(order: Order, kind: BreakKind, *, subject: str, details: Mapping[str, Any]) -> None:
    """One row per cause: a second sighting of an open break changes nothing."""
    open_account_break(order.account_id, kind, subject=subject, details=details, order=order)


def open_account_break(
    account_id: int, kind: BreakKind, *, subject: str, details: Mapping[str, Any], order: Order | None = None
) -> None:
    """A break of the account itself, or of one of its orders."""
    ReconciliationBreak.objects.bulk_create(
        [ReconciliationBreak(account_id=account_id, order=order, kind=kind, subject=subject, details=dict(details))],
        ignore_conflicts=True,
    )
    log.warning("break_opened", kind=str(kind), subject=subject, order_id=str(order.pk) if order else None)


def close_account_breaks(account_id: int, kind: BreakKind, *, resolution: str) -> None:
    """Of the account itself, not of its orders."""
    ReconciliationBreak.objects.filter(account_id=account_id, order=None, kind=kind, resolved_at__isnull=True).update(
        resolved_at=clock.now(), resolution=resolution
    )


def close_breaks(order: Order, kind: BreakKind, *, resolution: str) -> None:
    ReconciliationBreak.objects.filter(order=order, kind=kind, resolved_at__isnull=True).update(
        resolved_at=clock.now(), resolution=resolution
    )


def apply_report(attempt: ExchangeOrder, report: OrderReport, *, actor: str = "exchange") -> Order:
    """Join what the exchange said of `attempt` into the book; returns the order as it is then.

    `attempt.order` must be loaded; both may be stale, then they are read again.
    """
    return _apply(attempt, report, report.fills, source=report.source, actor=actor)


def apply_fills(
    attempt: ExchangeOrder, fills: Sequence[FillReport], *, source: ReportSource = ReportSource.TRADES
) -> Order:
    """Join trades that came without a report of the order (myTrades)."""
    return _apply(attempt, None, fills, source=source, actor="exchange")


def apply_fill(attempt: ExchangeOrder, fill: FillReport) -> Order:
    """Join one trade."""
    return apply_fills(attempt, [fill])


def apply_refusal(attempt: ExchangeOrder, *, code: str, message: str) -> Order:
    """The exchange answered that it certainly refused this request."""
    order = attempt.order
    for _ in range(_MAX_TRIES):
        with transaction.atomic():
            if _store_refusal(order, attempt, code=code, message=message):
                log.info("order_rejected", **log_fields(order), code=code, reason=message)
                return order
        order.refresh_from_db()
    raise TooMuchContention(order.pk)


def _store_refusal(order: Order, attempt: ExchangeOrder, *, code: str, message: str) -> bool:
    previous = OrderStatus(order.status)
    changes: dict[str, Any] = {"version": order.version + 1}
    if _is_current(order, attempt) and previous == OrderStatus.PENDING_NEW:
        changes |= {
            "status": next_status(previous, OrderStatus.REJECTED),
            "reason_code": code,
            "reason": message,
            "closed_at": clock.now(),
            "next_check_at": None,
        }
    refused = {"outcome": Outcome.REJECTED, "exchange_status": "REJECTED"}
    event = record_event(
        order,
        EventType.REJECTED,
        actor="exchange",
        previous_status=previous,
        source=ReportSource.PLACE,
        details={"client_order_id": attempt.client_order_id, "code": code, "message": message},
    )
    event.new_status = changes.get("status", previous)
    if not rows.write(own_version(order, changes), _own_row(attempt, refused), Insert([event]))[0]:
        return False
    if attempt.acknowledged_at is None:
        release_reservation(attempt)
    _take_over(order, changes)
    _set(attempt, refused)
    return True


def log_fields(order: Order) -> dict[str, Any]:
    """What each log line about an order names."""
    return {
        "order_id": str(order.pk),
        "intent_id": order.intent_id,
        "account_id": order.account_id,
        "symbol": order.symbol,
        "status": str(order.status),
    }


def _apply(
    attempt: ExchangeOrder,
    report: OrderReport | None,
    fills: Iterable[FillReport],
    *,
    source: ReportSource,
    actor: str,
) -> Order:
    fills = tuple(fills)
    for _ in range(_MAX_TRIES):
        merged = _merge(attempt, report, fills)
        order = attempt.order
        if not _says_something_new(attempt, report, merged):
            return order
        with transaction.atomic():
            is_stored = _store(attempt, report, merged, source=source, actor=actor)
        if is_stored:
            log.info("order_reported", **log_fields(order), source=str(source), filled=plain(order.filled_quantity))
            return order
        reload_attempt(attempt)
    raise TooMuchContention(attempt.pk)


def reload_attempt(attempt: ExchangeOrder) -> None:
    """Read the attempt and its order again, into the same objects."""
    attempt.order.refresh_from_db()
    order = attempt.order
    attempt.refresh_from_db()
    attempt.order = order


def _merge(attempt: ExchangeOrder, report: OrderReport | None, fills: tuple[FillReport, ...]) -> Merge:
    known_trade_ids: set[str] = set()
    if fills and attempt.fills_quantity > 0:
        known_trade_ids = set(
            Fill.objects.filter(
                account_id=attempt.account_id, symbol=attempt.symbol, trade_id__in=[fill.trade_id for fill in fills]
            ).values_list("trade_id", flat=True)
        )
    return merge_report(attempt_state(attempt), known_trade_ids=known_trade_ids, report=report, fills=fills)


def attempt_state(attempt: ExchangeOrder) -> AttemptState:
    return AttemptState(
        exchange_status=attempt.exchange_status,
        quantity=attempt.quantity,
        filled_quantity=attempt.filled_quantity,
        filled_quote_quantity=attempt.filled_quote_quantity,
        fills_quantity=attempt.fills_quantity,
        fills_quote_quantity=attempt.fills_quote_quantity,
        is_pending=attempt.outcome in (Outcome.IN_FLIGHT, Outcome.UNKNOWN),
    )


def _says_something_new(attempt: ExchangeOrder, report: OrderReport | None, merged: Merge) -> bool:
    if merged.new_fills or merged.unknown_status or merged.state != attempt_state(attempt):
        return True
    return report is not None and not attempt.exchange_order_id and bool(report.exchange_order_id)


def _store(
    attempt: ExchangeOrder, report: OrderReport | None, merged: Merge, *, source: ReportSource, actor: str
) -> bool:
    """Write the joined state of the attempt, the order, the fills and the event; False if the order has moved on."""
    order, now = attempt.order, clock.now()
    previous = OrderStatus(order.status)
    siblings = _siblings(order, attempt, merged.state)
    changes = _order_changes(order, siblings, report, now)
    if attempt.attempt == order.attempt and report is not None and report.exchange_order_id:
        changes["exchange_order_id"] = report.exchange_order_id
    changes["version"] = order.version + 1
    first_evidence = attempt.acknowledged_at is None
    had_fill_gap = attempt_state(attempt).has_fill_gap
    event = record_event(
        order,
        EventType.REPORT,
        actor=actor,
        previous_status=previous,
        source=source,
        details=_report_details(attempt, report, merged),
    )
    event.new_status = changes["status"]
    attempt_changes = _attempt_changes(attempt, report, merged.state, now)
    chain: list[Write] = [
        own_version(order, changes),
        _own_row(attempt, attempt_changes),
        *([Insert(_fills(attempt, merged.new_fills))] if merged.new_fills else []),
        Insert([event]),
    ]
    money = _reservation_end(order, attempt, report, merged, first_evidence=first_evidence)
    if isinstance(money, Update):
        chain.append(money)
    found = _findings(order, attempt, previous, changes, siblings, report, merged, first_evidence=first_evidence)
    is_mended = had_fill_gap and not any(state.has_fill_gap for state in siblings)
    # In the ordinary case this is all: it goes out as one message, with the commit.
    is_last = not (found or is_mended or notices.are_wanted() or money is RELEASED)
    if not rows.write(*chain, is_last=is_last)[0]:
        return False
    _take_over(order, changes, tell=bool(merged.new_fills))
    _set(attempt, attempt_changes)
    if money is RELEASED:
        release_reservation(attempt)
    if is_mended:
        close_breaks(order, BreakKind.FILL_GAP, resolution="the missing trades arrived")
    for kind, subject, details in found:
        open_break(order, kind, subject=subject, details=details)
    return True


def _siblings(order: Order, attempt: ExchangeOrder, state: AttemptState) -> list[AttemptState]:
    """The states of all attempts, oldest first; a second query only where there is more than one."""
    if order.attempt <= 1 and attempt.attempt == order.attempt:
        return [state]
    others = ExchangeOrder.objects.filter(order=order).order_by("attempt")
    return [state if other.pk == attempt.pk else attempt_state(other) for other in others]


def _order_changes(
    order: Order, attempts: Sequence[AttemptState], report: OrderReport | None, now: datetime
) -> dict[str, Any]:
    previous = OrderStatus(order.status)
    status = next_status(previous, settle(previous, attempts))
    filled = _total(attempt.filled_quantity for attempt in attempts)
    filled_quote = _total(attempt.filled_quote_quantity for attempt in attempts)
    changes: dict[str, Any] = {
        "status": status,
        "filled_quantity": filled,
        "filled_quote_quantity": filled_quote,
        "average_price": average_price(filled, filled_quote),
        "next_check_at": _next_check(order, status, attempts, now),
    }
    if order.acknowledged_at is None:
        changes["acknowledged_at"] = now
    if status not in CLOSED:
        changes["closed_at"] = None
    elif status != previous or order.closed_at is None:
        changes["closed_at"] = now
    if status != previous:
        # Our own verdict, if there was one, no longer stands; why the exchange ended the order, if it says so, does.
        changes["reason_code"] = changes["reason"] = (report.reason if report and status in CLOSED else "")[:64]
        changes["check_count"] = 0
    return changes


def _total(figures: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for figure in figures:
        total = EXACT.add(total, figure)
    return total


def _next_check(order: Order, status: OrderStatus, attempts: Sequence[AttemptState], now: datetime) -> datetime | None:
    if status == OrderStatus.PENDING_NEW:
        return order.next_check_at or now
    if sum(attempt.is_alive for attempt in attempts) > 1:
        return now
    if status in OPEN and order.cancel_requested_at is not None:
        return now
    if any(attempt.has_fill_gap for attempt in attempts):
        return now + FILLS_GRACE
    return None


def _attempt_changes(
    attempt: ExchangeOrder, report: OrderReport | None, state: AttemptState, now: datetime
) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "outcome": Outcome.ACKNOWLEDGED if state.is_shown else attempt.outcome,
        "exchange_status": state.exchange_status,
        "filled_quantity": state.filled_quantity,
        "filled_quote_quantity": state.filled_quote_quantity,
        "fills_quantity": state.fills_quantity,
        "fills_quote_quantity": state.fills_quote_quantity,
    }
    if attempt.acknowledged_at is None:
        changes["acknowledged_at"] = now
    if report is not None:
        if not attempt.exchange_order_id and report.exchange_order_id:
            changes["exchange_order_id"] = report.exchange_order_id
        if attempt.exchange_updated_at is None or report.updated_at > attempt.exchange_updated_at:
            changes["exchange_updated_at"] = report.updated_at
    return changes


def _set(row: Model, changes: Mapping[str, Any]) -> None:
    """Only when they are stored: who tries again, after a lost connection, starts from what the book held."""
    for name, value in changes.items():
        setattr(row, name, value)


def _own_row(attempt: ExchangeOrder, changes: Mapping[str, Any]) -> Update:
    return Update(ExchangeOrder, {"id": attempt.pk}, changes)


def release_reservation(attempt: ExchangeOrder) -> None:
    """The request certainly did not happen: what it might have spent is free again."""
    reservations.release(account_id=attempt.account_id, reference=attempt.client_order_id)


class _Released(Enum):
    RELEASED = auto()


RELEASED = _Released.RELEASED


def _reservation_end(
    order: Order, attempt: ExchangeOrder, report: OrderReport | None, merged: Merge, *, first_evidence: bool
) -> Update | _Released | None:
    """The exchange has the order, or it is over: its own balance figures take the reservation's place.

    The write that hands it over, or `RELEASED` where nothing was, and nothing can be, spent.
    """
    state = merged.state
    if state.is_alive and not first_evidence:
        return None
    if state.is_shown:
        spent = state.filled_quote_quantity if order.side == Side.BUY else state.filled_quantity
        if not state.is_alive and spent <= 0:
            return RELEASED
        taken_at = (report.created_at or report.updated_at) if report else min(f.traded_at for f in merged.new_fills)
        return reservations.hand_over(account_id=attempt.account_id, reference=attempt.client_order_id, at=taken_at)
    return RELEASED if state.exchange_status == ExchangeStatus.REJECTED else None


def _fills(attempt: ExchangeOrder, fills: Sequence[FillReport]) -> list[Fill]:
    return [
        Fill(
            order_id=attempt.order_id,
            exchange_order=attempt,
            account_id=attempt.account_id,
            symbol=attempt.symbol,
            trade_id=fill.trade_id,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            quote_quantity=fill.quote_quantity,
            commission=fill.commission,
            commission_asset=fill.commission_asset,
            is_maker=fill.is_maker,
            traded_at=fill.traded_at,
        )
        for fill in fills
    ]


def _report_details(attempt: ExchangeOrder, report: OrderReport | None, merged: Merge) -> dict[str, Any]:
    details: dict[str, Any] = {"client_order_id": attempt.client_order_id}
    if report is not None:
        details["message"] = dict(report.raw)
    if merged.new_fills:
        details["fills"] = [
            {"trade_id": fill.trade_id, "quantity": plain(fill.quantity), "price": plain(fill.price)}
            for fill in merged.new_fills
        ]
    return details


def _is_current(order: Order, attempt: ExchangeOrder) -> bool:
    return order.attempt == attempt.attempt


def _findings(
    order: Order,
    attempt: ExchangeOrder,
    previous: OrderStatus,
    changes: Mapping[str, Any],
    attempts: Sequence[AttemptState],
    report: OrderReport | None,
    merged: Merge,
    *,
    first_evidence: bool,
) -> list[tuple[BreakKind, str, dict[str, Any]]]:
    """What the report shows to be wrong: the breaks to open, as kind, subject, details."""
    subject = attempt.client_order_id
    found: list[tuple[BreakKind, str, dict[str, Any]]] = []
    if first_evidence and (previous in CLOSED or previous == OrderStatus.CREATED):
        found.append((BreakKind.LATE_EVIDENCE, subject, {"held": previous, "is": changes["status"]}))
    if sum(state.is_shown for state in attempts) > 1:
        found.append((BreakKind.DOUBLE_PLACEMENT, str(order.pk), {"attempts": len(attempts)}))
    if merged.unknown_status:
        found.append((BreakKind.UNKNOWN_STATUS, subject, {"status": merged.unknown_status}))
    if merged.state.quantity is not None and merged.state.filled_quantity > merged.state.quantity:
        figures = {"ordered": plain(merged.state.quantity), "filled": plain(merged.state.filled_quantity)}
        found.append((BreakKind.OVERFILL, subject, figures))
    if report is not None and first_evidence and (differences := _differences(order, attempt, report)):
        found.append((BreakKind.DIFFERENT_ORDER, subject, differences))
    return found


def _differences(order: Order, attempt: ExchangeOrder, report: OrderReport) -> dict[str, Any]:
    """Figures in which the exchange's order is not what we sent."""
    pairs: dict[str, tuple[Any, Any]] = {"side": (order.side, str(report.side))}
    if attempt.quantity is not None and report.quantity > 0:
        pairs["quantity"] = (plain(attempt.quantity), plain(report.quantity))
    if attempt.price is not None and report.price > 0:
        pairs["price"] = (plain(attempt.price), plain(report.price))
    return {name: {"ours": ours, "theirs": theirs} for name, (ours, theirs) in pairs.items() if ours != theirs}
