"""Trigger stop losses, take profits and trailing stops, and check their execution."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.engine.enums import OrderStatus
from exchanges.simulator.engine.types import EngineError, units
from tests.exchanges.simulator.engine.desk import Desk, audit


@pytest.fixture
def desk() -> Desk:
    """Return a desk with the last price 100, where Bob bids and offers plenty far around it."""
    desk = Desk()
    desk.trade_at("100")
    desk.limit("bob", "SELL", "100", "150")
    desk.limit("bob", "BUY", "100", "50")
    desk.events()
    return desk


@pytest.mark.parametrize(
    ("kind", "side", "stop_price", "before", "at"),
    [
        ("STOP_LOSS", "BUY", "110", "109.99", "110"),
        ("STOP_LOSS", "SELL", "90", "90.01", "90"),
        ("TAKE_PROFIT", "BUY", "90", "90.01", "90"),
        ("TAKE_PROFIT", "SELL", "110", "109.99", "110"),
        ("STOP_LOSS", "BUY", "110", "99", "130"),
        ("TAKE_PROFIT", "BUY", "90", "120", "60"),
    ],
)
def test_stop__triggers_when_the_last_price_reaches_it(
    desk: Desk, kind: str, side: str, stop_price: str, before: str, at: str
) -> None:
    order = desk.place("alice", side, kind, quantity="2", stop_price=stop_price).order
    desk.trade_at(before)
    assert (order.status, order.is_working, order.working_at) == (OrderStatus.NEW, False, None)
    audit(desk.engine)
    desk.later(1)
    desk.trade_at(at)
    assert (order.status, order.is_working, order.working_at) == (
        OrderStatus.FILLED,
        True,
        desk.now,
    )
    assert order.executed_quote == units("300" if side == "BUY" else "100")
    assert desk.story("alice") == [("NEW", "NEW"), ("NEW", "NEW"), ("TRADE", "FILLED")]
    audit(desk.engine)


@pytest.mark.parametrize("kind", ["STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"])
def test_stop_limit__rests_at_its_limit_once_triggered(desk: Desk, kind: str) -> None:
    side = "BUY" if kind == "STOP_LOSS_LIMIT" else "SELL"
    order = desk.place("alice", side, kind, quantity="2", price="120", stop_price="110").order
    assert desk.depth() == ([("50.00000000", "100.00000000")], [("150.00000000", "100.00000000")])
    desk.trade_at("115")
    own = desk.depth()[0 if side == "BUY" else 1][0]
    assert own == ("120.00000000", "2.00000000")
    assert order.is_working
    reports = desk.reports("alice")
    assert [(report.on_book, report.state.is_working) for report in reports] == [
        (False, False),
        (True, True),
    ]
    audit(desk.engine)


def test_stop_limit__immediate_or_cancel_expires_when_triggered_without_a_match(desk: Desk) -> None:
    order = desk.place(
        "alice",
        "BUY",
        "STOP_LOSS_LIMIT",
        quantity="2",
        price="120",
        stop_price="110",
        time_in_force="IOC",
    ).order
    desk.trade_at("110")
    assert (order.status, order.expiry_reason) == ("EXPIRED", "UNFILLED_IOC_QUANTITY_EXPIRED")
    audit(desk.engine)


@pytest.mark.parametrize(
    ("kind", "side", "stop_price"),
    [
        ("STOP_LOSS", "BUY", "100"),
        ("STOP_LOSS", "SELL", "100"),
        ("TAKE_PROFIT", "BUY", "100.01"),
        ("TAKE_PROFIT", "SELL", "99.99"),
        ("STOP_LOSS", "SELL", "110"),
    ],
)
def test_stop__that_would_trigger_at_once_is_refused(
    desk: Desk, kind: str, side: str, stop_price: str
) -> None:
    with pytest.raises(EngineError) as refused:
        desk.place("alice", side, kind, quantity="1", stop_price=stop_price)
    assert (refused.value.code, refused.value.message) == (
        -2010,
        "Order would trigger immediately.",
    )


def test_stop__trades_of_triggered_orders_trigger_others_nearest_first(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "112")
    desk.limit("bob", "SELL", "1", "115")
    far = desk.place("carol", "BUY", "STOP_LOSS", quantity="1", stop_price="112").order
    near = desk.place("alice", "BUY", "STOP_LOSS", quantity="1", stop_price="110").order
    never = desk.place("carol", "BUY", "STOP_LOSS", quantity="1", stop_price="116").order
    desk.trade_at("111")
    assert (near.executed_quote, far.executed_quote) == (units("112"), units("115"))
    assert never.status is OrderStatus.NEW
    audit(desk.engine)


def test_stop__equal_stop_prices_trigger_oldest_first(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "112")
    first = desk.place("carol", "BUY", "STOP_LOSS", quantity="1", stop_price="110").order
    second = desk.place("alice", "BUY", "STOP_LOSS", quantity="1", stop_price="110").order
    desk.trade_at("110")
    assert (first.executed_quote, second.executed_quote) == (units("112"), units("150"))


def test_stop__every_price_of_a_sweep_counts(desk: Desk) -> None:
    """Let a sell-off from 100 pass 120, which triggers the take profit at 120."""
    desk.limit("carol", "BUY", "1", "120")
    order = desk.place("alice", "SELL", "TAKE_PROFIT", quantity="1", stop_price="110").order
    desk.place("bob", "SELL", "LIMIT", quantity="1", price="50")
    assert order.status is OrderStatus.FILLED


def test_stop__market_buy_holds_at_its_stop_price_until_it_triggers(desk: Desk) -> None:
    desk.place("alice", "BUY", "STOP_LOSS", quantity="2", stop_price="110")
    assert desk.balance("alice", "BBB") == ("999780.00000000", "220.00000000")
    desk.trade_at("110")
    assert desk.balance("alice", "BBB") == ("999700.00000000", "0.00000000")


def test_stop__market_buy_buys_what_it_can_pay(desk: Desk) -> None:
    desk.engine.withdraw("alice", "BBB", units("999700"))
    order = desk.place("alice", "BUY", "STOP_LOSS", quantity="2.5", stop_price="110").order
    desk.trade_at("110")
    assert (order.status, order.executed_quantity) == (OrderStatus.EXPIRED, units("2"))
    assert desk.balance("alice", "BBB") == ("0.00000000", "0.00000000")
    audit(desk.engine)


def test_stop__canceled_before_it_triggers_frees_its_funds(desk: Desk) -> None:
    order = desk.place("alice", "SELL", "STOP_LOSS", quantity="2", stop_price="90").order
    assert desk.balance("alice", "AAA") == ("998.00000000", "2.00000000")
    desk.engine.cancel("alice", "AAABBB", order_id=order.order_id)
    desk.trade_at("80")
    assert order.status is OrderStatus.CANCELED
    assert desk.balance("alice", "AAA") == ("1000.00000000", "0.00000000")


# The published scenarios of trailing stops, divided by 400.
TRAILING: list[tuple[str, str, dict[str, Any], list[str], str, int | None]] = [
    # kind, side, order, prices, the triggering price, index of the price that starts the trailing
    (
        "STOP_LOSS_LIMIT",
        "BUY",
        {"stop_price": "110", "trailing_delta": 500, "price": "112.5"},
        ["92.5", "109.99", "110", "115", "105", "110.24"],
        "110.25",
        2,
    ),
    (
        "STOP_LOSS_LIMIT",
        "SELL",
        {"stop_price": "97.5", "trailing_delta": 1000, "price": "95"},
        ["103.75", "97.5", "92.5", "102.5", "92.26"],
        "92.25",
        1,
    ),
    (
        "TAKE_PROFIT_LIMIT",
        "BUY",
        {"stop_price": "95", "trailing_delta": 850, "price": "96.25"},
        ["105", "95", "92.5", "97.5", "95", "100.36"],
        "100.3625",
        1,
    ),
    (
        "TAKE_PROFIT_LIMIT",
        "SELL",
        {"stop_price": "105", "trailing_delta": 750, "price": "102.5"},
        ["103.75", "97.5", "105", "112.5", "110", "116.25", "107.54"],
        "107.53125",
        2,
    ),
    (
        "STOP_LOSS_LIMIT",
        "SELL",
        {"trailing_delta": 700, "price": "97.5"},
        ["105", "98.75", "113.75", "105.79"],
        "105.7875",
        None,
    ),
]


@pytest.mark.parametrize(("kind", "side", "order", "prices", "trigger", "start"), TRAILING)
def test_trailing__follows_the_published_scenarios(
    desk: Desk,
    kind: str,
    side: str,
    order: dict[str, Any],
    prices: list[str],
    trigger: str,
    start: int | None,
) -> None:
    placed = desk.place("alice", side, kind, quantity="1", **order).order
    assert placed.trailing_at == (None if start is not None else desk.now)
    for index, price in enumerate(prices):
        desk.later(1)
        desk.trade_at(price)
        if index == start:
            assert placed.trailing_at == desk.now
        assert not placed.is_working, price
    desk.trade_at(trigger)
    assert placed.is_working
    audit(desk.engine)


def test_trailing__market_buy_without_a_stop_price_holds_at_its_trigger(desk: Desk) -> None:
    order = desk.place("alice", "BUY", "STOP_LOSS", quantity="1", trailing_delta=100).order
    assert desk.balance("alice", "BBB") == ("999899.00000000", "101.00000000")
    desk.trade_at("90")
    desk.trade_at("90.9")
    assert (order.status, order.executed_quote) == (OrderStatus.FILLED, units("150"))
    audit(desk.engine)


def test_trailing__cancel_while_it_trails(desk: Desk) -> None:
    order = desk.place("alice", "SELL", "STOP_LOSS", quantity="1", trailing_delta=100).order
    desk.engine.cancel("alice", "AAABBB", order_id=order.order_id)
    desk.trade_at("50")
    assert (order.status, order.is_working) == (OrderStatus.CANCELED, False)
    audit(desk.engine)
