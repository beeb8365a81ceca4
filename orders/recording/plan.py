"""Plan how one message of the exchange changes our book: rows, breaks, and the reserved money.

Pure: `plan_record` reads the rows that it is given and returns a plan, which `apply` stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from exchanges.types import (
    EXACT,
    ExchangeStatus,
    FillReport,
    OrderReport,
    ReportSource,
    Side,
    from_ms,
    plain,
)
from orders.models import AttemptOutcome, BreakKind, ExchangeOrder, Order
from orders.recording.fence import fence_ms
from orders.recording.merge import AttemptState, Merge, average_price
from orders.recording.status import open_fates, status_of, surplus
from orders.states import CLOSED, OPEN, OrderStatus

PENDING = (AttemptOutcome.IN_FLIGHT, AttemptOutcome.UNKNOWN)
# The outcomes with which we give up an attempt. Evidence still overrides them.
HELD_GONE = (AttemptOutcome.ABSENT, AttemptOutcome.NOT_SENT, AttemptOutcome.LOST)

# The stream usually brings a missing trade before we would ask for it.
FILLS_GRACE = timedelta(seconds=1)


class Money(Enum):
    """The fate of an attempt's reservation."""

    KEEP = auto()  # Nothing new: it stays as it is.
    MARK = auto()  # The exchange has the order, so its balances from `taken_at` on show the money.
    RELEASE = auto()  # Nothing was spent, and nothing can be.


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the exchange about an attempt: a report of the order, trades, or both."""

    report: OrderReport | None
    fills: tuple[FillReport, ...]
    source: ReportSource
    actor: str


@dataclass(frozen=True, slots=True)
class BreakFound:
    """A break to open."""

    kind: BreakKind
    subject: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """Everything that one message changes. `taken_at` is the exchange's time, for `Money.MARK`."""

    order_changes: Mapping[str, Any]
    attempt_changes: Mapping[str, Any]
    new_fills: tuple[FillReport, ...]
    event_details: Mapping[str, Any]
    money: Money
    taken_at: datetime | None
    breaks: tuple[BreakFound, ...]
    closes_fill_gap: bool


def attempt_state(attempt: ExchangeOrder) -> AttemptState:
    """Return the part of the attempt's row that merging needs."""
    return AttemptState(
        exchange_status=attempt.exchange_status,
        quantity=attempt.quantity,
        filled_quantity=attempt.filled_quantity,
        filled_quote_quantity=attempt.filled_quote_quantity,
        fills_quantity=attempt.fills_quantity,
        fills_quote_quantity=attempt.fills_quote_quantity,
        is_pending=attempt.outcome in PENDING,
        is_lost=attempt.outcome == AttemptOutcome.LOST,
    )


def order_state(
    order: Order,
    attempts: Sequence[AttemptState],
    *,
    now: datetime,
    verdict: OrderStatus | None = None,
) -> dict[str, Any]:
    """Return the order's fields that follow from its attempts and our verdict.

    `attempts` are the states of all its attempts, oldest first. `verdict` replaces the stored one.
    """
    previous = OrderStatus(order.status)
    status = status_of(attempts, verdict or OrderStatus(order.verdict))
    changes: dict[str, Any] = {
        "status": status,
        "open_attempts": open_fates(attempts),
        "next_check_at": _next_check(order, status, attempts, now),
    }
    if verdict is not None:
        changes["verdict"] = verdict
    if status not in CLOSED:
        changes["closed_at"] = None
    elif status != previous or order.closed_at is None:
        changes["closed_at"] = now
    if status != previous:
        # The reason of the former status no longer stands.
        changes["reason_code"] = changes["reason"] = ""
        changes["check_count"] = 0
    return changes


def changes_nothing(attempt: ExchangeOrder, message: Message, merged: Merge) -> bool:
    """Return True if the message holds only facts that the attempt's row already shows."""
    if merged.new_fills or merged.unknown_status or merged.state != attempt_state(attempt):
        return False
    report = message.report
    if report is None or report.status == ExchangeStatus.REJECTED:
        return True  # The number of a refused order leads nowhere.
    has_number = bool(attempt.exchange_order_id) or not report.exchange_order_id
    return has_number and not _is_amended(attempt, report)


def plan_record(
    attempt: ExchangeOrder,
    message: Message,
    merged: Merge,
    attempts: Sequence[AttemptState],
    *,
    now: datetime,
) -> RecordPlan:
    """Plan the record of `message`, which `merged` joins with the attempt's row.

    `attempts` are the states of all attempts of the order after the merge, oldest first.
    """
    report = message.report
    order_changes = _order_changes(attempt, report, attempts, now)
    had_fill_gap = attempt_state(attempt).has_fill_gap
    money = _money(attempt, merged.state)
    return RecordPlan(
        order_changes=order_changes,
        attempt_changes=_attempt_changes(attempt, report, merged.state, now),
        new_fills=merged.new_fills,
        event_details=_event_details(attempt, report, merged),
        money=money,
        taken_at=_taken_at(attempt, report, merged) if money is Money.MARK else None,
        breaks=tuple(_breaks(attempt, report, merged, attempts, order_changes["status"])),
        closes_fill_gap=had_fill_gap and not any(state.has_fill_gap for state in attempts),
    )


# -- the order and its attempt -------------------------------------------------------------------


def _order_changes(
    attempt: ExchangeOrder,
    report: OrderReport | None,
    attempts: Sequence[AttemptState],
    now: datetime,
) -> dict[str, Any]:
    order = attempt.order
    filled = _total(state.filled_quantity for state in attempts)
    filled_quote = _total(state.filled_quote_quantity for state in attempts)
    changes = order_state(order, attempts, now=now) | {
        "filled_quantity": filled,
        "filled_quote_quantity": filled_quote,
        "average_price": average_price(filled, filled_quote),
    }
    if order.acknowledged_at is None:
        changes["acknowledged_at"] = now
    if "reason" in changes and report and changes["status"] in CLOSED:
        changes["reason_code"] = changes["reason"] = report.reason[:64]
    if attempt.attempt == order.attempt and report is not None and report.exchange_order_id:
        changes["exchange_order_id"] = report.exchange_order_id
    return changes


def _total(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _next_check(
    order: Order, status: OrderStatus, attempts: Sequence[AttemptState], now: datetime
) -> datetime | None:
    if status == OrderStatus.CREATED:
        return order.next_check_at or now
    if surplus(attempts) or (status in OPEN and order.cancel_requested_at is not None):
        return now
    if any(state.is_pending for state in attempts):
        return order.next_check_at or now
    if any(state.has_fill_gap and not state.is_lost for state in attempts):
        return now + FILLS_GRACE
    return None


def _attempt_changes(
    attempt: ExchangeOrder, report: OrderReport | None, state: AttemptState, now: datetime
) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "outcome": _outcome(attempt, state),
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
        if attempt.exchange_created_at is None and report.created_at is not None:
            changes["exchange_created_at"] = report.created_at
        if _is_amended(attempt, report):
            changes["amended_client_order_id"] = report.client_order_id
        if attempt.exchange_updated_at is None or report.updated_at > attempt.exchange_updated_at:
            changes["exchange_updated_at"] = report.updated_at
    return changes


def _is_amended(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return True if the exchange shows the order under another client order id than we know."""
    known = ("", attempt.client_order_id, attempt.amended_client_order_id)
    return report.client_order_id not in known


def _outcome(attempt: ExchangeOrder, state: AttemptState) -> str:
    if state.is_shown and not state.is_lost:
        return AttemptOutcome.ACKNOWLEDGED
    return AttemptOutcome.REJECTED if state.is_refused else attempt.outcome


def _event_details(
    attempt: ExchangeOrder, report: OrderReport | None, merged: Merge
) -> dict[str, Any]:
    details: dict[str, Any] = {"client_order_id": attempt.client_order_id}
    if report is not None:
        details["message"] = dict(report.raw)
    if merged.new_fills:
        details["fills"] = [
            {
                "trade_id": fill.trade_id,
                "quantity": plain(fill.quantity),
                "price": plain(fill.price),
            }
            for fill in merged.new_fills
        ]
    return details


# -- the reserved money --------------------------------------------------------------------------


def _money(attempt: ExchangeOrder, state: AttemptState) -> Money:
    if state.is_alive and not _is_first_evidence(attempt):
        return Money.KEEP
    if state.is_shown and not state.is_lost:
        is_buy = attempt.order.side == Side.BUY
        spent = state.filled_quote_quantity if is_buy else state.filled_quantity
        return Money.MARK if state.is_alive or spent > 0 else Money.RELEASE
    return Money.RELEASE if state.is_refused else Money.KEEP


def _taken_at(attempt: ExchangeOrder, report: OrderReport | None, merged: Merge) -> datetime:
    """Return the exchange's time from which its balances show the order.

    It took the order before the fence, whatever the message says, or its money would stay reserved.
    """
    if report is not None:
        taken_at = report.created_at or report.updated_at
    else:
        taken_at = min(fill.traded_at for fill in merged.new_fills)
    return min(taken_at, from_ms(fence_ms(attempt)))


def _is_first_evidence(attempt: ExchangeOrder) -> bool:
    return attempt.acknowledged_at is None


# -- breaks --------------------------------------------------------------------------------------


def _breaks(
    attempt: ExchangeOrder,
    report: OrderReport | None,
    merged: Merge,
    attempts: Sequence[AttemptState],
    status: OrderStatus,
) -> Iterable[BreakFound]:
    order, subject, state = attempt.order, attempt.client_order_id, merged.state
    previous = OrderStatus(order.status)
    first = _is_first_evidence(attempt)
    was_closed = first and (previous in CLOSED or previous == OrderStatus.CREATED)
    if was_closed or (attempt.outcome in HELD_GONE and merged.state.is_shown):
        details: dict[str, Any] = {"held": previous, "attempt": attempt.outcome, "is": status}
        yield BreakFound(BreakKind.LATE_EVIDENCE, subject, details)
    if sum(each.is_shown for each in attempts) > 1:
        details = {"attempts": len(attempts)}
        yield BreakFound(BreakKind.DOUBLE_PLACEMENT, str(order.pk), details)
    if merged.unknown_status:
        yield BreakFound(BreakKind.UNKNOWN_STATUS, subject, {"status": merged.unknown_status})
    if state.quantity is not None and state.filled_quantity > state.quantity:
        details = {"ordered": plain(state.quantity), "filled": plain(state.filled_quantity)}
        yield BreakFound(BreakKind.OVERFILL, subject, details)
    if report is not None and first and (differences := _differences(attempt, report)):
        yield BreakFound(BreakKind.DIFFERENT_ORDER, subject, differences)


def _differences(attempt: ExchangeOrder, report: OrderReport) -> dict[str, Any]:
    """Return the fields in which the exchange's order differs from the request that we sent."""
    pairs: dict[str, tuple[Any, Any]] = {"side": (attempt.order.side, str(report.side))}
    if attempt.quantity is not None and report.quantity > 0:
        pairs["quantity"] = (plain(attempt.quantity), plain(report.quantity))
    if attempt.price is not None and report.price > 0:
        pairs["price"] = (plain(attempt.price), plain(report.price))
    return {
        name: {"ours": ours, "theirs": theirs}
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    }
