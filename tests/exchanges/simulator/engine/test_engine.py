"""Place every order type and time in force, and check the book and the reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exchanges.simulator.engine.enums import ExpiryReason, OrderStatus
from exchanges.simulator.engine.types import EngineError, text, units
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit, request


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def asks(desk: Desk) -> Desk:
    """Return a desk where Bob offers 1 at 100, 2 at 101 and 3 at 102."""
    for quantity, price in (("1", "100"), ("2", "101"), ("3", "102")):
        desk.limit("bob", "SELL", quantity, price)
    desk.events()
    return desk


TAKERS: list[tuple[str, dict[str, Any], str, str, str, str]] = [
    # order, executed, quote, status, reason
    ("LIMIT", {"quantity": "2", "price": "100"}, "1", "100", "PARTIALLY_FILLED", "NONE"),
    ("LIMIT", {"quantity": "3", "price": "101"}, "3", "302", "FILLED", "NONE"),
    ("LIMIT", {"quantity": "1", "price": "99"}, "0", "0", "NEW", "NONE"),
    ("LIMIT", {"quantity": "2", "price": "500"}, "2", "201", "FILLED", "NONE"),
    (
        "LIMIT",
        {"quantity": "2", "price": "100", "time_in_force": "IOC"},
        "1",
        "100",
        "EXPIRED",
        "UNFILLED_IOC_QUANTITY_EXPIRED",
    ),
    (
        "LIMIT",
        {"quantity": "2", "price": "99", "time_in_force": "IOC"},
        "0",
        "0",
        "EXPIRED",
        "UNFILLED_IOC_QUANTITY_EXPIRED",
    ),
    (
        "LIMIT",
        {"quantity": "1", "price": "100", "time_in_force": "IOC"},
        "1",
        "100",
        "FILLED",
        "NONE",
    ),
    (
        "LIMIT",
        {"quantity": "3", "price": "101", "time_in_force": "FOK"},
        "3",
        "302",
        "FILLED",
        "NONE",
    ),
    (
        "LIMIT",
        {"quantity": "3.001", "price": "101", "time_in_force": "FOK"},
        "0",
        "0",
        "EXPIRED",
        "UNFILLED_FOK_ORDER_EXPIRED",
    ),
    ("MARKET", {"quantity": "4"}, "4", "404", "FILLED", "NONE"),
    ("MARKET", {"quantity": "7"}, "6", "608", "EXPIRED", "INSUFFICIENT_LIQUIDITY"),
    ("MARKET", {"quote_quantity": "302"}, "3", "302", "FILLED", "NONE"),
    ("MARKET", {"quote_quantity": "100.05"}, "1", "100", "FILLED", "NONE"),
    ("MARKET", {"quote_quantity": "100.2"}, "1.001", "100.101", "FILLED", "NONE"),
    ("MARKET", {"quote_quantity": "900"}, "6", "608", "EXPIRED", "INSUFFICIENT_LIQUIDITY"),
    ("LIMIT_MAKER", {"quantity": "1", "price": "99.99"}, "0", "0", "NEW", "NONE"),
]


@pytest.mark.parametrize(("kind", "fields", "executed", "quote", "status", "reason"), TAKERS)
def test_place__executes_what_its_type_allows(
    asks: Desk,
    kind: str,
    fields: dict[str, Any],
    executed: str,
    quote: str,
    status: str,
    reason: str,
) -> None:
    placement = asks.place("alice", "BUY", kind, **fields)
    state = placement.state
    assert (state.executed_quantity, state.executed_quote) == (units(executed), units(quote))
    assert (state.status, state.expiry_reason) == (status, reason)
    assert sum(fill.quantity for fill in placement.fills) == units(executed)
    assert asks.balance("alice", "AAA") == (text(units("1000") + units(executed)), "0.00000000")
    audit(asks.engine)


def test_place__best_price_first_and_oldest_first_at_a_price(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "101")
    second = desk.limit("bob", "SELL", "1", "100")
    third = desk.limit("carol", "SELL", "1", "100")
    placement = desk.place("alice", "BUY", "LIMIT", quantity="1.5", price="101")
    assert [(fill.price, fill.quantity) for fill in placement.fills] == [
        (units("100"), units("1")),
        (units("100"), units("0.5")),
    ]
    assert (second.status, third.status) == (OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED)


def test_place__trades_at_the_makers_price(desk: Desk) -> None:
    desk.limit("alice", "BUY", "1", "105")
    placement = desk.place("bob", "SELL", "LIMIT", quantity="1", price="95")
    assert placement.fills[0].price == units("105")


def test_place__market_sell_takes_the_bids(desk: Desk) -> None:
    desk.limit("alice", "BUY", "1", "100")
    desk.limit("alice", "BUY", "1", "99")
    placement = desk.place("bob", "SELL", "MARKET", quantity="1.5")
    assert placement.state.executed_quote == units("149.5")
    assert desk.balance("bob", "BBB") == ("1000149.50000000", "0.00000000")


def test_quote_order_quantity__comes_as_close_as_a_notional_can() -> None:
    """A notional is rounded down. So one more step still fits here, with exactly the amount."""
    lot = {"filterType": "LOT_SIZE", "minQty": "0", "maxQty": "0", "stepSize": "0.00000003"}
    desk = Desk(replace(PLAIN, filters=(lot,)))
    desk.limit("alice", "BUY", "3", "95.36411598")
    order = desk.place("bob", "SELL", "MARKET", quote_quantity="104.613").order
    assert (text(order.executed_quantity), text(order.executed_quote), order.status) == (
        "1.09698495",
        "104.61300000",
        "FILLED",
    )


def test_place__market_sell_by_quote_amount_receives_no_more_than_asked(desk: Desk) -> None:
    desk.limit("alice", "BUY", "10", "99")
    placement = desk.place("bob", "SELL", "MARKET", quote_quantity="100")
    assert placement.order.quantity == units("1.01")
    assert placement.state.executed_quote == units("99.99")
    assert placement.order.quote_quantity == units("100")


def test_place__market_without_liquidity_is_new_then_expired(desk: Desk) -> None:
    placement = desk.place("alice", "BUY", "MARKET", quantity="1")
    assert placement.state.status is OrderStatus.EXPIRED
    assert placement.state.executed_quantity == 0
    assert desk.story() == [("NEW", "NEW"), ("EXPIRED", "EXPIRED")]
    audit(desk.engine)


def test_place__market_by_quote_on_an_empty_book_is_refused(desk: Desk) -> None:
    with pytest.raises(EngineError) as refused:
        desk.place("alice", "BUY", "MARKET", quote_quantity="100")
    assert (refused.value.code, refused.value.message) == (
        -2010,
        "Order book liquidity is less than symbol minimum quantity.",
    )


def test_place__market_tells_new_then_trades_then_expired(asks: Desk) -> None:
    asks.place("alice", "BUY", "MARKET", quantity="7")
    reports = asks.reports("alice")
    assert [(report.execution_type, report.state.status) for report in reports] == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("EXPIRED", "EXPIRED"),
    ]
    assert [text(report.state.executed_quantity) for report in reports[1:]] == [
        "1.00000000",
        "3.00000000",
        "6.00000000",
        "6.00000000",
    ]
    assert [report.on_book for report in reports] == [True, False, False, False, False]
    assert reports[-1].state.expiry_reason is ExpiryReason.INSUFFICIENT_LIQUIDITY


def test_place__limit_maker_that_would_take_is_refused(asks: Desk) -> None:
    with pytest.raises(EngineError) as refused:
        asks.place("alice", "BUY", "LIMIT_MAKER", quantity="1", price="100")
    assert (refused.value.code, refused.value.message) == (
        -2010,
        "Order would immediately match and take.",
    )


def test_place__iceberg_shows_a_slice_and_queues_again_with_the_next(desk: Desk) -> None:
    iceberg = desk.limit("bob", "SELL", "5", "100", iceberg_quantity="2")
    other = desk.limit("carol", "SELL", "1", "100")
    assert desk.depth()[1] == [("100.00000000", "3.00000000")]
    desk.limit("alice", "BUY", "2.5", "100")
    assert (iceberg.executed_quantity, other.executed_quantity) == (units("2"), units("0.5"))
    assert desk.depth()[1] == [("100.00000000", "2.50000000")]
    desk.limit("alice", "BUY", "3.5", "100")
    assert (iceberg.status, other.status) == (OrderStatus.FILLED, OrderStatus.FILLED)
    audit(desk.engine)


def test_place__iceberg_takes_with_its_whole_quantity_before_it_rests(asks: Desk) -> None:
    placement = asks.place("alice", "BUY", "LIMIT", quantity="4", price="101", iceberg_quantity="1")
    assert placement.state.executed_quantity == units("3")
    assert asks.depth()[0] == [("101.00000000", "1.00000000")]


def test_place__fok_counts_what_icebergs_hide(desk: Desk) -> None:
    desk.limit("bob", "SELL", "5", "100", iceberg_quantity="1")
    placement = desk.place("alice", "BUY", "LIMIT", quantity="5", price="100", time_in_force="FOK")
    assert placement.state.status is OrderStatus.FILLED


def test_place__order_ids_are_numbered_per_symbol() -> None:
    desk = Desk(PLAIN, replace(PLAIN, symbol="CCCBBB", base_asset="CCC"))
    first = desk.limit("alice", "BUY", "1", "10")
    second = desk.limit("alice", "BUY", "1", "10", symbol="CCCBBB")
    assert first.order_id == second.order_id == 1


def test_place__duplicate_client_order_id_only_while_open(desk: Desk) -> None:
    first = desk.limit("alice", "BUY", "1", "10", client_order_id="mine")
    with pytest.raises(EngineError) as refused:
        desk.limit("alice", "BUY", "1", "10", client_order_id="mine")
    assert (refused.value.code, refused.value.message) == (-2010, "Duplicate order sent.")
    desk.limit(
        "bob", "BUY", "1", "10", client_order_id="mine"
    )  # this event belongs to another account
    desk.engine.cancel("alice", "AAABBB", order_id=first.order_id)
    second = desk.limit("alice", "BUY", "1", "10", client_order_id="mine")
    assert desk.engine.order("alice", "AAABBB", orig_client_order_id="mine") is second
    assert desk.engine.truth()["accounts"]["alice"]["reused_client_order_ids"] == {"mine": 2}


def test_place__filled_client_order_id_trades_again(asks: Desk) -> None:
    for _ in range(2):
        asks.place("alice", "BUY", "MARKET", quantity="1", client_order_id="twice")
    assert asks.balance("alice", "AAA")[0] == "1002.00000000"


def test_place__makes_up_a_client_order_id_from_the_seed() -> None:
    names = [Desk(seed=7).limit("alice", "BUY", "1", "10").client_order_id for _ in range(2)]
    assert names[0] == names[1]
    assert len(names[0]) == 22


def test_place__refusal_changes_nothing(asks: Desk) -> None:
    before = asks.engine.truth(), asks.engine.depth("AAABBB"), asks.engine.order_counts("alice")
    with pytest.raises(EngineError):
        asks.place("alice", "BUY", "LIMIT", quantity="20000", price="100")
    with pytest.raises(EngineError):
        asks.place("alice", "BUY", "LIMIT", quantity="10000", price="101")
    assert (
        asks.engine.truth(),
        asks.engine.depth("AAABBB"),
        asks.engine.order_counts("alice"),
    ) == before
    assert asks.events() == []


def test_test_order__checks_and_does_nothing(asks: Desk) -> None:
    asks.engine.test_order("alice", request("BUY", "MARKET", quantity="1"))
    with pytest.raises(EngineError, match="LOT_SIZE"):
        asks.engine.test_order("alice", request("BUY", "MARKET", quantity="0.0001"))
    assert asks.engine.truth()["accounts"]["alice"]["accepted"] == 0
    assert asks.events() == []
