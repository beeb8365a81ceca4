"""Move a market from outside: prices, fills, endings, a wipe, and the truth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exchanges.simulator.engine.enums import ExpiryReason, OrderStatus, SymbolStatus
from exchanges.simulator.engine.types import EngineError, units
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_set_price__becomes_the_last_price_and_moves_the_quotes(desk: Desk) -> None:
    desk.engine.quote("AAABBB", [(units("99"), units("1"))], [(units("101"), units("2"))])
    desk.engine.set_price("AAABBB", units("150"))
    assert desk.engine.last_price("AAABBB") == units("150")
    assert desk.depth() == ([("149.00000000", "1.00000000")], [("151.00000000", "2.00000000")])
    assert desk.engine.average_price("AAABBB")[1] == units("150")


@pytest.mark.parametrize(
    ("side", "price", "filled"), [("BUY", "95", True), ("BUY", "89", False), ("SELL", "89", True)]
)
def test_set_price__fills_what_it_reaches_at_the_orders_own_price(
    desk: Desk, side: str, price: str, filled: bool
) -> None:
    order = desk.limit("alice", side, "5", price)
    desk.engine.set_price("AAABBB", units("90"))
    assert (order.status is OrderStatus.FILLED) is filled
    if filled:
        assert order.executed_quote == units(price) * 5
        assert desk.engine.trades("alice", "AAABBB")[0].is_maker
    assert desk.engine.last_price("AAABBB") == units("90")
    audit(desk.engine)


def test_set_price__triggers_stops_against_the_new_quotes(desk: Desk) -> None:
    desk.engine.set_price("AAABBB", units("100"))
    order = desk.place("alice", "SELL", "STOP_LOSS", quantity="1", stop_price="95").order
    desk.engine.set_price("AAABBB", units("90"), bids=[(units("89.5"), units("10"))], asks=[])
    assert (order.status, order.executed_quote) == (OrderStatus.FILLED, units("89.5"))
    audit(desk.engine)


def test_set_price__with_no_quotes_stops_find_nobody(desk: Desk) -> None:
    desk.engine.set_price("AAABBB", units("100"))
    order = desk.place("alice", "SELL", "STOP_LOSS", quantity="1", stop_price="95").order
    desk.engine.set_price("AAABBB", units("90"))
    assert (order.status, order.expiry_reason) == (
        OrderStatus.EXPIRED,
        ExpiryReason.INSUFFICIENT_LIQUIDITY,
    )


def test_fill__the_house_takes_a_part_then_the_rest(desk: Desk) -> None:
    order = desk.limit("alice", "SELL", "2", "100")
    trade = desk.engine.fill("AAABBB", order.order_id, units("0.5"))
    assert (trade.quantity, trade.price, trade.is_maker, trade.order_id) == (
        units("0.5"),
        units("100"),
        True,
        order.order_id,
    )
    desk.engine.fill("AAABBB", order.order_id, price=units("110"))
    assert (order.status, order.executed_quote) == (OrderStatus.FILLED, units("215"))
    assert desk.engine.last_price("AAABBB") == units("110")
    assert desk.story("alice") == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("TRADE", "FILLED"),
    ]
    audit(desk.engine)


def test_fill__at_a_better_price_frees_the_difference(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "2", "100")
    desk.engine.fill("AAABBB", order.order_id, units("1"), units("90"))
    assert desk.balance("alice", "BBB") == ("999810.00000000", "100.00000000")
    audit(desk.engine)


def test_fill__of_an_iceberg_takes_more_than_it_shows(desk: Desk) -> None:
    order = desk.limit("alice", "SELL", "5", "100", iceberg_quantity="1")
    desk.engine.fill("AAABBB", order.order_id, units("3.5"))
    assert desk.depth()[1] == [("100.00000000", "1.00000000")]
    desk.engine.fill("AAABBB", order.order_id)
    assert desk.depth()[1] == []
    audit(desk.engine)


@pytest.mark.parametrize(
    ("quantity", "price"), [("2.1", None), ("0", None), (None, "99"), ("1", "0")]
)
def test_fill__impossible_quantities_and_prices(
    desk: Desk, quantity: str | None, price: str | None
) -> None:
    order = desk.limit("alice", "SELL", "2", "100")
    with pytest.raises(ValueError, match="cannot be filled"):
        desk.engine.fill(
            "AAABBB",
            order.order_id,
            None if quantity is None else units(quantity),
            None if price is None else units(price),
        )


def test_fill__only_what_is_on_the_book(desk: Desk) -> None:
    stop = desk.place("alice", "BUY", "STOP_LOSS", quantity="1", stop_price="200").order
    for order_id, code in ((stop.order_id, -2011), (99, -2013)):
        with pytest.raises(EngineError) as refused:
            desk.engine.fill("AAABBB", order_id)
        assert refused.value.code == code


def test_cancel_by_exchange__looks_like_a_cancel(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "1", "90", client_order_id="mine")
    desk.engine.set_status("AAABBB", SymbolStatus.HALT)
    desk.engine.cancel_by_exchange("AAABBB", order.order_id)
    report = desk.reports("alice")[-1]
    assert (report.execution_type, report.state.status, report.orig_client_order_id) == (
        "CANCELED",
        "CANCELED",
        "mine",
    )
    assert desk.balance("alice", "BBB") == ("1000000.00000000", "0.00000000")
    with pytest.raises(EngineError, match="Unknown order sent"):
        desk.engine.cancel_by_exchange("AAABBB", order.order_id)


@pytest.mark.parametrize("waiting", [False, True])
def test_expire__with_its_reason(desk: Desk, waiting: bool) -> None:
    order = (
        desk.place("alice", "BUY", "STOP_LOSS", quantity="1", stop_price="200").order
        if waiting
        else desk.limit("alice", "BUY", "1", "90")
    )
    desk.engine.expire("AAABBB", order.order_id)
    report = desk.reports("alice")[-1]
    assert (report.execution_type, report.state.status, report.state.expiry_reason) == (
        "EXPIRED",
        "EXPIRED",
        ExpiryReason.EXCHANGE_CANCELED,
    )
    audit(desk.engine)


def test_wipe__leaves_first_balances_and_nothing_else(desk: Desk) -> None:
    fresh = Desk().engine.truth()
    desk.limit("bob", "SELL", "1", "100")
    desk.limit("alice", "BUY", "2", "100")
    desk.place("carol", "BUY", "STOP_LOSS", quantity="1", stop_price="200")
    desk.engine.deposit("alice", "CCC", 5)
    desk.engine.wipe()
    assert desk.engine.truth() == fresh
    assert desk.events() == []
    assert desk.depth() == ([], [])
    assert desk.limit("alice", "BUY", "1", "90").order_id == 1
    audit(desk.engine)


def test_truth__is_plain_data_about_everything(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "100", client_order_id="s")
    desk.limit("alice", "BUY", "2", "100", client_order_id="b")
    truth = json.loads(json.dumps(desk.engine.truth()))
    alice = truth["accounts"]["alice"]
    assert (alice["accepted"], alice["traded"], alice["accepted_by_client_order_id"]) == (
        1,
        1,
        {"b": 1},
    )
    assert [(order["client_order_id"], order["status"]) for order in alice["orders"]] == [
        ("b", "PARTIALLY_FILLED")
    ]
    assert [(trade["order_id"], trade["quantity"]) for trade in alice["trades"]] == [
        (2, "1.00000000")
    ]
    assert alice["balances"]["BBB"] == {"free": "999800.00000000", "locked": "100.00000000"}


def test_add_symbol__while_running(desk: Desk) -> None:
    desk.engine.add_symbol(replace(PLAIN, symbol="CCCBBB", base_asset="CCC"))
    desk.limit("alice", "BUY", "1", "90", symbol="CCCBBB")
    assert desk.engine.symbols["CCCBBB"].base_asset == "CCC"
    audit(desk.engine)


def test_add_account__twice(desk: Desk) -> None:
    with pytest.raises(ValueError, match="exists"):
        desk.engine.add_account("alice")
    with pytest.raises(ValueError, match="exists"):
        desk.engine.add_account("house")
