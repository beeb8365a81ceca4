"""Check reconciliation as data: our orders and the exchange's list give actions and differences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges.types import BalanceReport, OrderReport, ReportSource, Side
from orders.reconciliation.diff import (
    Action,
    Difference,
    OurOrder,
    Step,
    compare_locked,
    compare_open_orders,
    locked_by,
    looks_reset,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
D = Decimal


def own(**changes: Any) -> OurOrder:
    base = {
        "client_order_id": "c-1", "exchange_order_id": "7", "symbol": "BTCUSDT", "side": Side.BUY,
        "exchange_status": "NEW", "quantity": D(2), "price": D(10), "filled_quantity": D(0),
        "fills_quantity": D(0), "touched_at": NOW - timedelta(minutes=1),
    }  # fmt: skip
    return OurOrder(**{**base, **changes})


def listed(**changes: Any) -> OrderReport:
    base = {
        "source": ReportSource.OPEN_ORDERS, "symbol": "BTCUSDT", "client_order_id": "c-1",
        "exchange_order_id": "7",
        "status": "NEW", "side": Side.BUY, "order_type": "LIMIT", "time_in_force": "GTC",
        "quantity": D(2),
        "price": D(10), "filled_quantity": D(0), "filled_quote_quantity": D(0), "updated_at": NOW,
    }  # fmt: skip
    return OrderReport(**{**base, **changes})


# name, our orders, the exchange's list -> actions, kinds of differences
Scenario = tuple[str, list[OurOrder], list[OrderReport], list[tuple[Step, str]], list[str]]
SCENARIOS: list[Scenario] = [
    ("equal", [own()], [listed()], [], []),
    ("nothing anywhere", [], [], [], []),
    ("filled further", [own()], [listed(status="PARTIALLY_FILLED", filled_quantity=D(1))],
     [(Step.APPLY, "c-1")], []),
    ("a list older than the stream", [own(exchange_status="PARTIALLY_FILLED", filled_quantity=D(1),
     fills_quantity=D(1), touched_at=NOW)], [listed()], [], []),
    ("missing in the list", [own()], [], [(Step.ASK, "c-1")], []),
    ("missing but just touched", [own(touched_at=NOW)], [], [], []),
    ("without a row", [], [listed(client_order_id="x")], [(Step.ADOPT, "x")], []),
    ("amended: another client id, the same order", [own()], [listed(client_order_id="new")], [],
     []),
    ("same number on another symbol", [own()], [listed(client_order_id="x", symbol="ETHUSDT")],
     [(Step.ADOPT, "x"), (Step.ASK, "c-1")], []),
    ("unknown status", [own()], [listed(status="DREAMING")], [(Step.APPLY, "c-1")], []),
    ("other side", [own()], [listed(side=Side.SELL)], [], ["DIFFERENT_ORDER"]),
    ("other quantity", [own()], [listed(quantity=D(3))], [], ["DIFFERENT_ORDER"]),
    ("other price", [own()], [listed(price=D(11))], [], ["DIFFERENT_ORDER"]),
    ("we hold more filled than the list", [own(exchange_status="PARTIALLY_FILLED",
     filled_quantity=D(1),
     fills_quantity=D(1))], [listed()], [], ["DIFFERENT_ORDER"]),
    ("trades are missing", [own(exchange_status="PARTIALLY_FILLED", filled_quantity=D(1))],
     [listed(status="PARTIALLY_FILLED", filled_quantity=D(1))], [(Step.FETCH_FILLS, "c-1")], []),
    ("trades are missing but just touched",
     [own(exchange_status="PARTIALLY_FILLED", filled_quantity=D(1),
     touched_at=NOW)], [listed(status="PARTIALLY_FILLED", filled_quantity=D(1))], [], []),
    ("filled further, with trades missing",
     [own(exchange_status="PARTIALLY_FILLED", filled_quantity=D(1))],
     [listed(status="PARTIALLY_FILLED", filled_quantity=D(2))], [(Step.APPLY, "c-1")], []),
    ("given in quote: quantity is the exchange's", [own(quantity=None)], [listed(quantity=D(3))],
     [], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "steps", "kinds"),
    [row[1:] for row in SCENARIOS],
    ids=[r[0] for r in SCENARIOS],
)
def test_compare_open_orders__scenarios(
    ours: list[OurOrder], theirs: list[OrderReport], steps: list[tuple[Step, str]], kinds: list[str]
) -> None:
    actions, differences = compare_open_orders(
        ours, theirs, untouched_since=NOW - timedelta(seconds=5)
    )
    assert [(action.step, action.key) for action in actions] == steps
    assert [difference.kind for difference in differences] == kinds


def test_compare_open_orders__carries_the_report() -> None:
    report = listed(status="PARTIALLY_FILLED", filled_quantity=D(1))
    assert compare_open_orders([own()], [report], untouched_since=NOW)[0] == [
        Action(Step.APPLY, "c-1", report)
    ]


def test_locked_by__what_open_orders_still_need() -> None:
    orders = [
        listed(filled_quantity=D("0.5")),
        listed(side=Side.SELL, quantity=D(3), filled_quantity=D(1)),
    ]
    assert locked_by(orders, {"BTCUSDT": ("BTC", "USDT")}) == {"USDT": D(15), "BTC": D(2)}


@pytest.mark.parametrize(
    "order", [listed(symbol="NOPE"), listed(price=D(0)), listed(raw={"orderListId": 7})]
)
def test_locked_by__does_not_guess(order: OrderReport) -> None:
    assert locked_by([order], {"BTCUSDT": ("BTC", "USDT")}) is None


def test_compare_locked__names_what_does_not_tie_out() -> None:
    rows = [BalanceReport("USDT", D(1), D(20), NOW), BalanceReport("BTC", D(1), D(2), NOW)]
    assert compare_locked(rows, {"USDT": D(20), "BTC": D(2)}, tolerance=D(0)) == []
    assert compare_locked(rows, {"USDT": D("19.99999999"), "BTC": D(2)}, tolerance=D("1e-8")) == []
    assert compare_locked(rows, {"BTC": D(2)}, tolerance=D("1e-8")) == [
        Difference("BALANCE_MISMATCH", "USDT", {"by open orders": "0", "by the exchange": "20"})
    ]
    assert [d.subject for d in compare_locked([], {"BTC": D(2)}, tolerance=D(0))] == ["BTC"]


@pytest.mark.parametrize(
    ("our_count", "unlisted", "asked", "missing", "reset"),
    [
        (0, 0, 0, 0, False),
        (1, 1, 1, 1, False),
        (2, 2, 1, 1, False),
        (2, 2, 2, 2, True),
        (3, 2, 2, 2, False),
        (3, 3, 3, 2, False),
        (5000, 5000, 19, 19, False),
        (5000, 5000, 20, 20, True),
        (5000, 4999, 20, 20, False),
        (5000, 5000, 21, 20, False),
    ],
)
def test_looks_reset__only_if_no_order_is_listed_or_known(
    our_count: int, unlisted: int, asked: int, missing: int, reset: bool
) -> None:
    assert looks_reset(ours=our_count, unlisted=unlisted, asked=asked, missing=missing) is reset
