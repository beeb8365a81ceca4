"""Check the reports to the owners of orders, in order and in full."""

from __future__ import annotations

import pytest

from exchanges.simulator.engine.events import AccountPositionEvent, ExecutionEvent
from exchanges.simulator.engine.types import text, units
from tests.exchanges.simulator.engine.desk import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_events__reports_first_then_one_position_per_account(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "100")
    desk.events()
    desk.limit("alice", "BUY", "2", "100")
    events = desk.events()
    assert [(type(event), event.account_id) for event in events] == [
        (ExecutionEvent, "alice"),
        (ExecutionEvent, "alice"),
        (ExecutionEvent, "bob"),
        (AccountPositionEvent, "alice"),
        (AccountPositionEvent, "bob"),
    ]
    assert desk.events() == []


def test_events__a_trade_says_everything_of_both_sides(desk: Desk) -> None:
    maker = desk.limit(
        "bob", "SELL", "1", "100", client_order_id="m", strategy_id=7, strategy_type=1_000_001
    )
    desk.later(2)
    taker = desk.limit("alice", "BUY", "3", "101", client_order_id="t")
    new_maker, new_taker, told_taker, told_maker = desk.reports()
    assert (new_maker.on_book, new_taker.on_book) == (True, True)
    assert new_maker.transact_time == maker.created_at != new_taker.transact_time
    for report, order, is_maker in ((told_taker, taker, False), (told_maker, maker, True)):
        assert report.order is order
        assert (report.client_order_id, report.orig_client_order_id) == (order.client_order_id, "")
        trade = report.trade
        assert trade is not None
        assert (text(trade.quantity), text(trade.price)) == ("1.00000000", "100.00000000")
        assert (trade.quote_quantity, report.state.executed_quote) == (units("100"), units("100"))
        assert (trade.trade_id, trade.is_maker, trade.commission) == (1, is_maker, 0)
        assert trade.commission_asset == ("BBB" if is_maker else "AAA")
    assert (told_taker.state.status, told_taker.on_book) == ("PARTIALLY_FILLED", True)
    assert (told_maker.state.status, told_maker.on_book) == ("FILLED", False)
    assert (maker.strategy_id, maker.strategy_type) == (7, 1_000_001)


def test_events__execution_ids_rise_within_a_symbol(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "100")
    desk.limit("alice", "BUY", "2", "100")
    desk.engine.cancel_all("alice", "AAABBB")
    ids = [report.execution_id for report in desk.reports()]
    assert ids == sorted(set(ids))


def test_events__are_what_was_true_then(desk: Desk) -> None:
    desk.limit("alice", "BUY", "2", "100")
    desk.limit("bob", "SELL", "1", "100")
    desk.engine.cancel_all("alice", "AAABBB")
    assert desk.story("alice") == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("CANCELED", "CANCELED"),
    ]


def test_events__the_house_is_told_nothing(desk: Desk) -> None:
    desk.engine.quote("AAABBB", [(units("99"), units("1"))], [(units("101"), units("1"))])
    desk.limit("alice", "BUY", "1", "101")
    assert {event.account_id for event in desk.events()} == {"alice"}


def test_events__placement_is_answered_with_its_own_state_not_what_it_set_off(desk: Desk) -> None:
    """Let Alice's buy trigger Carol's sell, which trades with the rest of Alice's order."""
    desk.trade_at("90")
    desk.limit("bob", "SELL", "1", "100")
    carol = desk.place("carol", "SELL", "TAKE_PROFIT", quantity="1", stop_price="95").order
    placement = desk.place("alice", "BUY", "LIMIT", quantity="2", price="100")
    assert placement.state.executed_quantity == units("1")
    assert len(placement.fills) == 1
    assert carol.status == "FILLED"
    assert placement.order.status == "FILLED"
