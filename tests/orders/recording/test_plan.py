"""Check the plan for one message as a table: rows, breaks and reserved money. No database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges.types import FillReport, OrderReport, ReportSource, Side
from orders.models import BreakKind, ExchangeOrder, Order
from orders.recording.merge import AttemptState, merge_report
from orders.recording.plan import (
    FILLS_GRACE,
    Message,
    Money,
    RecordPlan,
    attempt_state,
    changes_nothing,
    plan_record,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(seconds=5)
SENT = NOW - timedelta(seconds=6)
AFTER_GRACE = NOW + FILLS_GRACE
D = Decimal

REPORT = OrderReport(
    source=ReportSource.STREAM,
    symbol="BTCUSDT",
    client_order_id="bo-1",
    exchange_order_id="5",
    status="NEW",
    side=Side.BUY,
    order_type="LIMIT",
    time_in_force="GTC",
    quantity=D(4),
    price=D(10),
    filled_quantity=D(0),
    filled_quote_quantity=D(0),
    updated_at=EARLIER,
)
PENDING = {"status": "PENDING_NEW", "attempt": 1, "version": 3, "next_check_at": EARLIER}
WORKING = {"status": "NEW", "attempt": 1, "version": 4, "acknowledged_at": EARLIER}


def fill(trade_id: str, quantity: str) -> FillReport:
    return FillReport(
        symbol="BTCUSDT",
        trade_id=trade_id,
        exchange_order_id="5",
        side=Side.BUY,
        quantity=D(quantity),
        price=D(10),
        quote_quantity=D(quantity) * 10,
        commission=D(0),
        commission_asset="BNB",
        is_maker=False,
        traded_at=EARLIER + timedelta(seconds=int(trade_id)),
    )


def attempt(order: dict[str, Any] | None = None, **changes: Any) -> ExchangeOrder:
    row = Order(side="BUY", symbol="BTCUSDT", next_check_at=None)
    for name, value in (order or PENDING).items():
        setattr(row, name, value)
    given = {"client_order_id": "bo-1", "attempt": 1, "quantity": D(4), "price": D(10)}
    return ExchangeOrder(order=row, symbol="BTCUSDT", **{**given, **changes})


def shown(order: dict[str, Any] | None = None, **changes: Any) -> ExchangeOrder:
    """Return an attempt that the exchange has acknowledged."""
    given = {"outcome": "ACKNOWLEDGED", "exchange_status": "NEW", "exchange_order_id": "5"}
    return attempt(order or WORKING, **{**given, "acknowledged_at": EARLIER, **changes})


def plan(
    row: ExchangeOrder,
    report: OrderReport | None,
    *fills: FillReport,
    before: tuple[AttemptState, ...] = (),
) -> RecordPlan:
    message = Message(report, fills, ReportSource.STREAM, "stream")
    merged = merge_report(attempt_state(row), known_trade_ids=(), report=report, fills=fills)
    return plan_record(row, message, merged, [*before, merged.state], now=NOW)


def said(status: str, filled: str = "0", **changes: Any) -> OrderReport:
    return replace(
        REPORT,
        status=status,
        filled_quantity=D(filled),
        filled_quote_quantity=D(filled) * 10,
        **changes,
    )


@pytest.mark.parametrize(
    ("row", "report", "fills", "money", "taken_at"),
    [
        (attempt(), said("NEW"), (), Money.MARK, EARLIER),
        (attempt(), said("NEW", created_at=SENT), (), Money.MARK, SENT),
        (attempt(), said("FILLED", "4"), (), Money.MARK, EARLIER),
        (attempt(), said("EXPIRED"), (), Money.RELEASE, None),
        (attempt(), said("EXPIRED", "1"), (), Money.MARK, EARLIER),
        (attempt(), said("REJECTED"), (), Money.RELEASE, None),
        (attempt(), said("A_NEW_WORD"), (), Money.KEEP, None),
        (attempt(), None, (fill("2", "1"), fill("1", "1")), Money.MARK, EARLIER + FILLS_GRACE),
        (shown(), said("PARTIALLY_FILLED", "1"), (), Money.KEEP, None),
        (shown(), said("CANCELED"), (), Money.RELEASE, None),
        (shown(), said("CANCELED", "1"), (), Money.MARK, EARLIER),
        (shown(), said("FILLED", "4"), (), Money.MARK, EARLIER),
    ],
)  # fmt: skip
def test_plan_record__where_the_reserved_money_goes(
    row: ExchangeOrder,
    report: OrderReport | None,
    fills: tuple[FillReport, ...],
    money: Money,
    taken_at: datetime | None,
) -> None:
    planned = plan(row, report, *fills)
    assert (planned.money, planned.taken_at) == (money, taken_at)


ACKNOWLEDGED = {
    "status": "NEW",
    "acknowledged_at": NOW,
    "closed_at": None,
    "next_check_at": None,
    "check_count": 0,
    "reason_code": "",
    "reason": "",
}
ENDED = {"status": "EXPIRED", "closed_at": NOW, "reason_code": "STP", "reason": "STP"}
PARTIAL = {
    "status": "PARTIALLY_FILLED",
    "filled_quantity": D(1),
    "filled_quote_quantity": D(10),
    "average_price": D(10),
}
DENIED = {**PENDING, "status": "DENIED", "reason_code": "X", "next_check_at": None}
CANCEL_REQUESTED = {**WORKING, "cancel_requested_at": EARLIER}
FILLED = {**WORKING, "status": "FILLED", "closed_at": EARLIER}


@pytest.mark.parametrize(
    ("row", "report", "fills", "expected"),
    [
        (attempt(), said("NEW"), (), {**ACKNOWLEDGED, "exchange_order_id": "5"}),
        (attempt({**PENDING, "attempt": 2}), said("NEW"), (), {"exchange_order_id": None}),
        (attempt(), said("EXPIRED", reason="STP"), (), ENDED),
        (attempt(DENIED), said("NEW"), (), ACKNOWLEDGED),
        (attempt(), said("A_NEW_WORD"), (), {"status": "PENDING_NEW", "next_check_at": EARLIER}),
        (shown(), said("PARTIALLY_FILLED", "1"), (), {**PARTIAL, "next_check_at": AFTER_GRACE}),
        (shown(), None, (fill("1", "1"),), {**PARTIAL, "next_check_at": None}),
        (shown(CANCEL_REQUESTED), None, (fill("1", "1"),), {**PARTIAL, "next_check_at": NOW}),
    ],
)  # fmt: skip
def test_plan_record__changes_of_the_order(
    row: ExchangeOrder,
    report: OrderReport | None,
    fills: tuple[FillReport, ...],
    expected: dict[str, Any],
) -> None:
    changes = plan(row, report, *fills).order_changes
    assert {name: changes.get(name) for name in expected} == expected


def test_plan_record__a_closed_order_keeps_its_times() -> None:
    row = shown(FILLED, exchange_status="FILLED", filled_quantity=D(4))
    changes = plan(row, None, fill("1", "4")).order_changes
    assert changes["status"] == "FILLED"
    assert not {"closed_at", "acknowledged_at", "reason"} & set(changes)


def test_plan_record__changes_of_the_attempt() -> None:
    changes = plan(attempt(), said("PARTIALLY_FILLED", "2"), fill("1", "1")).attempt_changes
    assert changes == {
        "outcome": "ACKNOWLEDGED",
        "exchange_status": "PARTIALLY_FILLED",
        "filled_quantity": D(2),
        "filled_quote_quantity": D(20),
        "fills_quantity": D(1),
        "fills_quote_quantity": D(10),
        "acknowledged_at": NOW,
        "exchange_order_id": "5",
        "exchange_updated_at": EARLIER,
    }
    later = shown(exchange_updated_at=NOW)
    assert "exchange_updated_at" not in plan(later, said("CANCELED")).attempt_changes


ALIVE = AttemptState(exchange_status="NEW", quantity=D(4))


@pytest.mark.parametrize(
    ("row", "report", "before", "kinds"),
    [
        (attempt(), said("NEW"), (), []),
        (attempt({**PENDING, "status": "NOT_PLACED"}), said("NEW"), (), ["LATE_EVIDENCE"]),
        (attempt({**PENDING, "status": "CREATED"}), said("NEW"), (), ["LATE_EVIDENCE"]),
        (shown({**WORKING, "status": "CANCELED"}), said("FILLED", "4"), (), []),
        (attempt(), said("NEW"), (ALIVE,), ["DOUBLE_PLACEMENT"]),
        (attempt(), said("A_NEW_WORD"), (), ["UNKNOWN_STATUS"]),
        (shown(), said("FILLED", "5"), (), ["OVERFILL"]),
        (attempt(), said("NEW", side=Side.SELL), (), ["DIFFERENT_ORDER"]),
        (attempt(), said("NEW", quantity=D(3)), (), ["DIFFERENT_ORDER"]),
        (attempt(), said("NEW", price=D(0)), (), []),
        (shown(), said("PARTIALLY_FILLED", "1", price=D(11)), (), []),
    ],
)  # fmt: skip
def test_plan_record__breaks(
    row: ExchangeOrder,
    report: OrderReport,
    before: tuple[AttemptState, ...],
    kinds: list[str],
) -> None:
    assert [found.kind for found in plan(row, report, before=before).breaks] == kinds


def test_plan_record__two_live_attempts_are_due_at_once() -> None:
    assert plan(attempt(), said("NEW"), before=(ALIVE,)).order_changes["next_check_at"] == NOW


def test_plan_record__a_fill_gap_closes_when_the_last_trade_arrives() -> None:
    row = shown(filled_quantity=D(2), filled_quote_quantity=D(20))
    assert not plan(row, None, fill("1", "1")).closes_fill_gap
    assert plan(row, None, fill("1", "1"), fill("2", "1")).closes_fill_gap
    assert not plan(shown(), None, fill("1", "1")).closes_fill_gap, "there was none"


def test_plan_record__the_event_keeps_the_message_and_the_new_trades() -> None:
    details = plan(attempt(), said("NEW", raw={"i": 5}), fill("1", "1")).event_details
    assert details == {
        "client_order_id": "bo-1",
        "message": {"i": 5},
        "fills": [{"trade_id": "1", "quantity": "1", "price": "10"}],
    }


def test_plan_record__an_order_filled_by_one_attempt_stays_filled_whatever_another_shows() -> None:
    filled = AttemptState("FILLED", D(4), D(4), D(40), D(4), D(40))
    row = attempt({**PENDING, "status": "FILLED", "attempt": 2}, attempt=2)
    planned = plan(row, said("NEW"), before=(filled,))
    changes = planned.order_changes
    assert (changes["status"], changes["open_attempts"]) == ("FILLED", 1)
    assert changes["next_check_at"] == NOW, "the sweep cancels the live one"
    assert BreakKind.DOUBLE_PLACEMENT in {found.kind for found in planned.breaks}


@pytest.mark.parametrize(
    ("row", "report", "fills", "nothing"),
    [
        (shown(), said("NEW"), (), True),
        (shown(), None, (), True),
        (shown(exchange_order_id=""), said("NEW"), (), False),
        (shown(), said("CANCELED"), (), False),
        (shown(), said("A_NEW_WORD"), (), False),
        (shown(), None, (fill("1", "1"),), False),
    ],
)
def test_changes_nothing(
    row: ExchangeOrder,
    report: OrderReport | None,
    fills: tuple[FillReport, ...],
    nothing: bool,
) -> None:
    message = Message(report, fills, ReportSource.STREAM, "stream")
    merged = merge_report(attempt_state(row), known_trade_ids=(), report=report, fills=fills)
    assert changes_nothing(row, message, merged) is nothing
