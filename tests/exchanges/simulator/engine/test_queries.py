"""Read orders, trades, books and prices, now and in the past."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.engine.enums import OrderStatus
from exchanges.simulator.engine.types import EngineError, text, units
from tests.exchanges.simulator.engine.desk import START, Desk

SECOND = 1_000_000


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_order__by_either_id_or_both(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "1", "90", client_order_id="mine")
    for ids in (
        {"order_id": 1},
        {"orig_client_order_id": "mine"},
        {"order_id": 1, "orig_client_order_id": "mine"},
    ):
        assert desk.engine.order("alice", "AAABBB", **ids) is order


@pytest.mark.parametrize(
    ("account", "ids", "code", "message"),
    [
        ("alice", {"order_id": 2}, -2013, "Order does not exist."),
        ("alice", {"orig_client_order_id": "no"}, -2013, "Order does not exist."),
        ("bob", {"order_id": 1}, -2013, "Order does not exist."),
        (
            "alice",
            {"order_id": 1, "orig_client_order_id": "no"},
            -2039,
            "Client order ID is not correct for this order ID.",
        ),
    ],
)
def test_order__refusals(
    desk: Desk, account: str, ids: dict[str, Any], code: int, message: str
) -> None:
    desk.limit("alice", "BUY", "1", "90", client_order_id="mine")
    with pytest.raises(EngineError) as refused:
        desk.engine.order(account, "AAABBB", **ids)
    assert (refused.value.code, refused.value.message) == (code, message)


def test_order__a_reused_client_order_id_is_its_newest_order(desk: Desk) -> None:
    orders = []
    for _ in range(2):
        orders.append(desk.limit("alice", "BUY", "1", "90", client_order_id="mine"))
        desk.engine.cancel("alice", "AAABBB", orig_client_order_id="mine")
    assert desk.engine.order("alice", "AAABBB", orig_client_order_id="mine") is orders[1]
    assert desk.engine.order("alice", "AAABBB", order_id=orders[0].order_id) is orders[0]


def test_open_orders__of_one_symbol_or_all(desk: Desk) -> None:
    desk.limit("alice", "BUY", "1", "90")
    stop = desk.place("alice", "BUY", "STOP_LOSS", quantity="1", stop_price="200").order
    closed = desk.limit("alice", "BUY", "1", "91")
    desk.engine.cancel("alice", "AAABBB", order_id=closed.order_id)
    assert [order.order_id for order in desk.engine.open_orders("alice", "AAABBB")] == [
        1,
        stop.order_id,
    ]
    assert len(desk.engine.open_orders("alice")) == 2
    with pytest.raises(EngineError, match="Invalid symbol"):
        desk.engine.open_orders("alice", "NOPE")


def test_all_orders__pages(desk: Desk) -> None:
    for _ in range(6):
        desk.limit("alice", "BUY", "1", "90")
        desk.later(1)

    def ids(**criteria: int) -> list[int]:
        return [order.order_id for order in desk.engine.all_orders("alice", "AAABBB", **criteria)]

    assert ids() == [1, 2, 3, 4, 5, 6]
    assert ids(limit=2) == [5, 6]
    assert ids(order_id=3, limit=2) == [3, 4]
    assert ids(start=START + 2 * SECOND, end=START + 4 * SECOND) == [3, 4, 5]
    assert ids(start=START + 2 * SECOND, limit=1) == [3]
    assert ids(end=START + SECOND) == [1, 2]
    assert ids(order_id=6, end=START + SECOND) == [1, 2]
    desk.engine.cancel("alice", "AAABBB", order_id=1)
    assert ids(start=START + 5 * SECOND) == [1, 6]


def test_trades__pages(desk: Desk) -> None:
    for _ in range(3):
        desk.limit("bob", "SELL", "2", "100")
        desk.limit("alice", "BUY", "1", "100")
        desk.limit("alice", "BUY", "1", "100")
        desk.later(1)

    def ids(**criteria: int) -> list[int]:
        return [trade.trade_id for trade in desk.engine.trades("alice", "AAABBB", **criteria)]

    assert ids() == [1, 2, 3, 4, 5, 6]
    assert ids(limit=2) == [5, 6]
    assert ids(from_id=2, limit=2) == [2, 3]
    assert ids(order_id=2) == [1]
    assert ids(order_id=6, from_id=1) == [4]
    assert ids(start=START + SECOND) == [3, 4, 5, 6]
    assert ids(start=START + SECOND, end=START + SECOND) == [3, 4]
    assert [trade.order_id for trade in desk.engine.trades("bob", "AAABBB", order_id=4)] == [4, 4]


def test_trades__say_what_the_owner_may_know(desk: Desk) -> None:
    maker = desk.limit("bob", "SELL", "2", "100", client_order_id="m")
    desk.limit("alice", "BUY", "1.5", "100", client_order_id="t")
    (trade,) = desk.engine.trades("bob", "AAABBB")
    assert (trade.order_id, trade.client_order_id, trade.side, trade.is_maker) == (
        maker.order_id,
        "m",
        "SELL",
        True,
    )
    assert (text(trade.price), text(trade.quantity), text(trade.quote_quantity)) == (
        "100.00000000",
        "1.50000000",
        "150.00000000",
    )


def test_at__queries_answer_as_of_a_moment_ago(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "2", "100")
    placed = desk.now
    desk.later(1)
    desk.limit("bob", "SELL", "0.5", "100")
    partly = desk.now
    desk.later(1)
    desk.engine.cancel("alice", "AAABBB", order_id=order.order_id)
    engine = desk.engine

    with pytest.raises(EngineError, match="does not exist"):
        engine.order("alice", "AAABBB", order_id=order.order_id, at=placed - 1)
    story = []
    for at in (placed, partly - 1, partly, desk.now):
        state = engine.order_state(
            engine.order("alice", "AAABBB", order_id=order.order_id, at=at), at
        )
        assert state is not None
        story.append((state.status, state.executed_quantity))
    assert story == [
        (OrderStatus.NEW, 0),
        (OrderStatus.NEW, 0),
        (OrderStatus.PARTIALLY_FILLED, units("0.5")),
        (OrderStatus.CANCELED, units("0.5")),
    ]
    assert [
        len(engine.open_orders("alice", at=at)) for at in (placed - 1, placed, partly, desk.now)
    ] == [0, 1, 1, 0]
    assert [len(engine.all_orders("alice", "AAABBB", at=at)) for at in (placed - 1, placed)] == [
        0,
        1,
    ]
    assert [len(engine.trades("alice", "AAABBB", at=at)) for at in (placed, partly)] == [0, 1]
    balances = [
        engine.balances("alice", at)["BBB"] for at in (placed - 1, placed, partly, desk.now)
    ]
    assert [(text(free), text(locked)) for free, locked in balances] == [
        ("1000000.00000000", "0.00000000"),
        ("999800.00000000", "200.00000000"),
        ("999800.00000000", "150.00000000"),
        ("999950.00000000", "0.00000000"),
    ]


def test_depth__adds_up_orders_of_a_price_best_first(desk: Desk) -> None:
    for account, side, quantity, price in (
        ("alice", "BUY", "1", "99"),
        ("bob", "BUY", "2", "99"),
        ("alice", "BUY", "5", "98"),
        ("bob", "SELL", "1", "102"),
        ("bob", "SELL", "1", "101"),
    ):
        desk.limit(account, side, quantity, price)
    assert desk.depth() == (
        [("99.00000000", "3.00000000"), ("98.00000000", "5.00000000")],
        [("101.00000000", "1.00000000"), ("102.00000000", "1.00000000")],
    )
    assert len(desk.engine.depth("AAABBB", 1).bids) == 1
    before = desk.engine.depth("AAABBB").last_update_id
    desk.engine.cancel_all("alice", "AAABBB")
    assert desk.engine.depth("AAABBB").last_update_id > before
    bid, ask = desk.engine.best("AAABBB")
    assert (bid, ask) == ((units("99"), units("2")), (units("101"), units("1")))


def test_best__of_an_empty_book(desk: Desk) -> None:
    assert desk.engine.best("AAABBB") == (None, None)
    assert desk.engine.last_price("AAABBB") == 0


def test_recent_trades__say_who_took(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "100")
    desk.limit("alice", "BUY", "1", "100")
    desk.limit("bob", "BUY", "1", "99")
    desk.limit("alice", "SELL", "1", "99")
    trades = desk.engine.recent_trades("AAABBB")
    assert [(trade.trade_id, trade.buyer_is_maker) for trade in trades] == [(1, False), (2, True)]
    assert desk.engine.recent_trades("AAABBB", limit=1)[0].trade_id == 2
    assert desk.engine.recent_trades("AAABBB", from_id=1, limit=1)[0].trade_id == 1
    assert desk.engine.last_price("AAABBB") == units("99")


def test_aggregate_trades__of_one_taker_at_one_price(desk: Desk) -> None:
    for quantity, price in (("1", "100"), ("2", "100"), ("3", "101")):
        desk.limit("bob", "SELL", quantity, price)
    desk.limit("alice", "BUY", "4", "101")
    desk.limit("alice", "BUY", "1", "101")
    rows = [
        (
            trade.aggregate_id,
            text(trade.price),
            text(trade.quantity),
            trade.first_trade_id,
            trade.last_trade_id,
        )
        for trade in desk.engine.aggregate_trades("AAABBB")
    ]
    assert rows == [
        (1, "100.00000000", "3.00000000", 1, 2),
        (2, "101.00000000", "1.00000000", 3, 3),
        (3, "101.00000000", "1.00000000", 4, 4),
    ]
    assert [
        trade.aggregate_id for trade in desk.engine.aggregate_trades("AAABBB", from_id=2, limit=1)
    ] == [2]


def test_average_price__is_weighted_and_five_minutes_long(desk: Desk) -> None:
    desk.trade_at("100", "1")
    desk.later(200)
    desk.trade_at("200", "3")
    assert desk.engine.average_price("AAABBB") == (5, units("175"), desk.now)
    desk.later(100)
    assert desk.engine.average_price("AAABBB")[1] == units("200")
    desk.later(1000)
    assert desk.engine.average_price("AAABBB")[1] == units(
        "200"
    )  # the last price if nothing traded


def test_bars__open_high_low_close_and_taker_volume(desk: Desk) -> None:
    for price, buyer_is_maker in (("100", False), ("105", True), ("95", False), ("98", False)):
        desk.engine.print_trade("AAABBB", units(price), units("1"), buyer_is_maker=buyer_is_maker)
        desk.later(10)
    desk.later(60)
    desk.trade_at("110")
    first, second = desk.engine.bars("AAABBB", 60)
    assert [text(value) for value in (first.open, first.high, first.low, first.close)] == [
        "100.00000000",
        "105.00000000",
        "95.00000000",
        "98.00000000",
    ]
    assert (text(first.volume), text(first.quote_volume), first.trades) == (
        "4.00000000",
        "398.00000000",
        4,
    )
    assert (text(first.taker_buy_volume), text(first.taker_buy_quote_volume)) == (
        "3.00000000",
        "293.00000000",
    )
    assert (first.first_trade_id, first.last_trade_id) == (1, 4)
    assert second.opened_at % (60 * SECOND) == 0
    (hour,) = desk.engine.bars("AAABBB", 3600)
    assert (hour.trades, text(hour.close)) == (5, "110.00000000")
    assert len(desk.engine.bars("AAABBB", 1)) == 5
    assert desk.engine.bars("AAABBB", 60, limit=1)[0].opened_at == second.opened_at
    assert (
        desk.engine.bars("AAABBB", 60, start=first.opened_at, limit=1)[0].opened_at
        == first.opened_at
    )
    assert desk.engine.bars("AAABBB", 60, end=first.opened_at) == [first]


def test_day_stats__forget_what_is_older_than_a_day(desk: Desk) -> None:
    desk.trade_at("50")
    desk.later(3600)
    desk.trade_at("100")
    desk.later(24 * 3600 - 60)
    desk.trade_at("120", "2")
    stats = desk.engine.day_stats("AAABBB")
    assert [
        text(value)
        for value in (stats.open, stats.high, stats.low, stats.last, stats.previous_close)
    ] == [
        "100.00000000",
        "120.00000000",
        "100.00000000",
        "120.00000000",
        "50.00000000",
    ]
    assert (text(stats.volume), text(stats.quote_volume), stats.trades) == (
        "3.00000000",
        "340.00000000",
        2,
    )
    assert (stats.first_trade_id, stats.last_trade_id, stats.closed_at) == (2, 3, desk.now)


def test_history__keeps_the_last_closed_orders_and_every_open_one() -> None:
    desk = Desk(history_limit=5)
    old = desk.limit("alice", "BUY", "1", "1", client_order_id="old")
    for index in range(20):
        order = desk.limit("alice", "BUY", "1", "90", client_order_id=f"c{index}")
        desk.engine.cancel("alice", "AAABBB", order_id=order.order_id)
    assert [order.order_id for order in desk.engine.all_orders("alice", "AAABBB")] == [
        1,
        17,
        18,
        19,
        20,
        21,
    ]
    assert desk.engine.order("alice", "AAABBB", orig_client_order_id="old") is old
    with pytest.raises(EngineError, match="does not exist"):
        desk.engine.order("alice", "AAABBB", orig_client_order_id="c3")
    assert desk.engine.truth()["accounts"]["alice"]["accepted"] == 21
