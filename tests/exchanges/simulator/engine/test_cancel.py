"""Cancel orders by each id, under each restriction, and when they can't be canceled."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.engine.enums import (
    CancelRestriction,
    ExecutionType,
    OrderStatus,
    SymbolStatus,
)
from exchanges.simulator.engine.types import EngineError, units
from tests.exchanges.simulator.engine.desk import Desk, audit


@pytest.fixture
def desk() -> Desk:
    """Return a desk where Alice has order 1 `new` and order 2 `partial`, half filled."""
    desk = Desk()
    desk.limit("alice", "BUY", "1", "90", client_order_id="new")
    desk.limit("alice", "BUY", "1", "100", client_order_id="partial")
    desk.limit("bob", "SELL", "0.5", "100")
    desk.events()
    return desk


@pytest.mark.parametrize(
    "ids",
    [
        {"order_id": 1},
        {"orig_client_order_id": "new"},
        {"order_id": 1, "orig_client_order_id": "new"},
    ],
)
def test_cancel__by_either_id_or_both(desk: Desk, ids: dict[str, Any]) -> None:
    cancellation = desk.engine.cancel("alice", "AAABBB", **ids, new_client_order_id="request")
    assert cancellation.order.order_id == 1
    assert cancellation.order.status is OrderStatus.CANCELED
    (report,) = desk.reports()
    assert report.execution_type is ExecutionType.CANCELED
    assert (report.client_order_id, report.orig_client_order_id) == ("request", "new")
    assert desk.balance("alice", "BBB") == ("999900.00000000", "50.00000000")
    audit(desk.engine)


def test_cancel__makes_up_the_requests_own_id(desk: Desk) -> None:
    cancellation = desk.engine.cancel("alice", "AAABBB", order_id=1)
    assert cancellation.client_order_id not in ("", "new")
    assert cancellation.order.client_order_id == "new"


@pytest.mark.parametrize(
    ("ids", "code", "message"),
    [
        ({"order_id": 99}, -2011, "Unknown order sent."),
        ({"orig_client_order_id": "nobody"}, -2011, "Unknown order sent."),
        ({"order_id": 99, "orig_client_order_id": "new"}, -2011, "Unknown order sent."),
        (
            {"order_id": 1, "orig_client_order_id": "partial"},
            -2039,
            "Client order ID is not correct for this order ID.",
        ),
        ({"order_id": 3}, -2011, "Unknown order sent."),  # bob's, and filled
        ({}, -2011, "Cancel order is invalid. Check origClOrdId and orderId."),
    ],
)
def test_cancel__refusals(desk: Desk, ids: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(EngineError) as refused:
        desk.engine.cancel("alice", "AAABBB", **ids)
    assert (refused.value.code, refused.value.message) == (code, message)
    assert desk.events() == []


def test_cancel__what_is_closed_is_unknown(desk: Desk) -> None:
    desk.engine.cancel("alice", "AAABBB", order_id=1)
    with pytest.raises(EngineError, match="Unknown order sent"):
        desk.engine.cancel("alice", "AAABBB", order_id=1)


@pytest.mark.parametrize(
    ("order_id", "restriction", "allowed"),
    [
        (1, CancelRestriction.ONLY_NEW, True),
        (1, CancelRestriction.ONLY_PARTIALLY_FILLED, False),
        (2, CancelRestriction.ONLY_NEW, False),
        (2, CancelRestriction.ONLY_PARTIALLY_FILLED, True),
    ],
)
def test_cancel__restrictions(
    desk: Desk, order_id: int, restriction: CancelRestriction, allowed: bool
) -> None:
    if allowed:
        cancellation = desk.engine.cancel(
            "alice", "AAABBB", order_id=order_id, restriction=restriction
        )
        assert cancellation.order.status is OrderStatus.CANCELED
        return
    with pytest.raises(EngineError) as refused:
        desk.engine.cancel("alice", "AAABBB", order_id=order_id, restriction=restriction)
    assert (refused.value.code, refused.value.message) == (
        -2011,
        "Order was not canceled due to cancel restrictions.",
    )


def test_cancel__keeps_what_was_executed(desk: Desk) -> None:
    order = desk.engine.cancel("alice", "AAABBB", order_id=2).order
    assert (order.executed_quantity, order.executed_quote) == (units("0.5"), units("50"))


def test_cancel_all__of_one_symbol_and_account_only(desk: Desk) -> None:
    other = desk.limit("carol", "BUY", "1", "80")
    stop = desk.place("alice", "SELL", "STOP_LOSS", quantity="1", stop_price="50").order
    cancellations = desk.engine.cancel_all("alice", "AAABBB")
    assert [cancellation.order.order_id for cancellation in cancellations] == [1, 2, stop.order_id]
    assert desk.engine.open_orders("alice") == []
    assert other.is_open
    with pytest.raises(EngineError) as refused:
        desk.engine.cancel_all("alice", "AAABBB")
    assert (refused.value.code, refused.value.message) == (-2011, "Unknown order sent.")
    audit(desk.engine)


@pytest.mark.parametrize(
    ("status", "may_cancel"),
    [
        (SymbolStatus.TRADING, True),
        (SymbolStatus.CANCEL_ONLY, True),
        (SymbolStatus.HALT, False),
        (SymbolStatus.BREAK, False),
        (SymbolStatus.END_OF_DAY, False),
    ],
)
def test_status__closed_markets_take_no_orders_and_only_some_cancels(
    desk: Desk, status: SymbolStatus, may_cancel: bool
) -> None:
    desk.engine.set_status("AAABBB", status)
    if status is not SymbolStatus.TRADING:
        with pytest.raises(EngineError) as refused:
            desk.limit("alice", "BUY", "1", "90")
        assert (refused.value.code, refused.value.message) == (-1013, "Market is closed.")
    if may_cancel:
        desk.engine.cancel("alice", "AAABBB", order_id=1)
        desk.engine.cancel_all("alice", "AAABBB")
        return
    with pytest.raises(EngineError) as refused:
        desk.engine.cancel("alice", "AAABBB", order_id=1)
    assert (refused.value.code, refused.value.message) == (-2011, "Market is closed.")


def test_account__that_may_not_trade_can_neither_place_nor_cancel(desk: Desk) -> None:
    desk.account("alice").can_trade = False
    message = "This account may not place or cancel orders."
    with pytest.raises(EngineError, match=message) as refused:
        desk.limit("alice", "BUY", "1", "90")
    assert refused.value.code == -2010
    with pytest.raises(EngineError, match=message) as refused:
        desk.engine.cancel("alice", "AAABBB", order_id=1)
    assert refused.value.code == -2011
