"""Amend orders: what changes, what stays, and what the exchange refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exchanges.simulator.engine.enums import ExecutionType, OrderStatus, SymbolStatus
from exchanges.simulator.engine.types import EngineError, units
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit


@pytest.fixture
def desk() -> Desk:
    """Return a desk where Alice has order 1 `mine` before Bob's order 2, at one price."""
    desk = Desk()
    desk.limit("alice", "BUY", "2", "100", client_order_id="mine")
    desk.limit("bob", "BUY", "1", "100", client_order_id="behind")
    desk.events()
    return desk


def amend(desk: Desk, quantity: str, **ids: Any) -> Any:
    return desk.engine.amend("alice", "AAABBB", units(quantity), **(ids or {"order_id": 1}))


def test_amend__keeps_number_and_place_and_releases_money(desk: Desk) -> None:
    amendment = amend(desk, "0.5", orig_client_order_id="mine", new_client_order_id="smaller")
    (report,) = desk.reports()
    assert report.execution_type is ExecutionType.REPLACED
    assert (report.client_order_id, report.orig_client_order_id) == ("smaller", "mine")
    assert (report.state.quantity, report.state.status) == (units("0.5"), OrderStatus.NEW)
    assert report.execution_id == amendment.execution_id
    assert desk.balance("alice", "BBB") == ("999950.00000000", "50.00000000")
    assert desk.depth()[0] == [("100.00000000", "1.50000000")]
    audit(desk.engine)
    desk.limit("carol", "SELL", "0.7", "100")
    assert amendment.order.status is OrderStatus.FILLED
    assert desk.engine.order("bob", "AAABBB", order_id=2).executed_quantity == units("0.2")
    audit(desk.engine)


def test_amend__moves_the_client_order_id(desk: Desk) -> None:
    made = amend(desk, "1").new_client_order_id
    assert len(made) == 22
    assert desk.engine.order("alice", "AAABBB", orig_client_order_id=made).order_id == 1
    with pytest.raises(EngineError) as caught:
        desk.engine.order("alice", "AAABBB", orig_client_order_id="mine")
    assert caught.value.code == -2013
    # The old id is free, and the new one is taken.
    desk.limit("alice", "BUY", "1", "90", client_order_id="mine")
    with pytest.raises(EngineError, match="Duplicate"):
        desk.limit("alice", "BUY", "1", "90", client_order_id=made)


def test_amend__the_old_id_leads_to_the_order_that_had_it_before(desk: Desk) -> None:
    desk.limit("carol", "SELL", "2", "100")
    desk.limit("alice", "BUY", "1", "90", client_order_id="mine")
    second = desk.engine.order("alice", "AAABBB", orig_client_order_id="mine")
    amend(desk, "0.5", order_id=second.order_id, new_client_order_id="other")
    found = desk.engine.order("alice", "AAABBB", orig_client_order_id="mine")
    assert (found.order_id, found.status) == (1, OrderStatus.FILLED)


def test_amend__queries_of_the_past_show_the_order_as_it_was(desk: Desk) -> None:
    before = desk.now
    desk.later(5)
    amend(desk, "0.5", order_id=1, new_client_order_id="smaller")
    old = desk.engine.order("alice", "AAABBB", orig_client_order_id="mine", at=before)
    state = desk.engine.order_state(old, before)
    assert state is not None
    assert (state.quantity, state.client_order_id) == (units("2"), "mine")
    with pytest.raises(EngineError):
        desk.engine.order("alice", "AAABBB", orig_client_order_id="smaller", at=before)


def test_amend__keeps_the_id_if_it_is_sent_again(desk: Desk) -> None:
    amendment = amend(desk, "1", order_id=1, new_client_order_id="mine")
    assert amendment.order.client_order_id == "mine"
    desk.engine.cancel("alice", "AAABBB", orig_client_order_id="mine")
    audit(desk.engine)


def test_amend__of_an_iceberg_shows_less_only_below_its_slice() -> None:
    desk = Desk()
    desk.limit("alice", "BUY", "5", "100", iceberg_quantity="1")
    amend(desk, "2")
    assert desk.depth()[0] == [("100.00000000", "1.00000000")]
    amend(desk, "0.4")
    assert desk.depth()[0] == [("100.00000000", "0.40000000")]
    audit(desk.engine)


def test_amend__of_a_waiting_stop_order() -> None:
    desk = Desk()
    desk.trade_at("100")
    desk.place("alice", "BUY", "STOP_LOSS_LIMIT", quantity="2", price="111", stop_price="110")
    order_id = next(iter(desk.engine.open_orders("alice"))).order_id
    amend(desk, "1", order_id=order_id)
    assert desk.balance("alice", "BBB")[1] == "111.00000000"
    audit(desk.engine)


@pytest.mark.parametrize("quantity", ["0.5", "0.3"])
def test_amend__to_what_has_executed_ends_the_order(desk: Desk, quantity: str) -> None:
    desk.limit("carol", "SELL", "0.5", "100")
    desk.events()
    amendment = amend(desk, quantity)
    assert amendment.order.status is OrderStatus.EXPIRED
    assert amendment.order.quantity == units("2")
    assert desk.story("alice") == [("EXPIRED", "EXPIRED")]
    audit(desk.engine)


@pytest.mark.parametrize(
    ("quantity", "ids", "code", "message"),
    [
        ("3", {"order_id": 1}, -2038, "Order amend (quantity increase) is not supported."),
        ("2", {"order_id": 1}, -2038, "The requested action would change no state; rejecting"),
        ("1", {"order_id": 9}, -2038, "Unknown order sent."),
        ("1", {"order_id": 2}, -2038, "Unknown order sent."),
        ("1", {"orig_client_order_id": "nobody"}, -2038, "Unknown order sent."),
        (
            "1",
            {"order_id": 1, "orig_client_order_id": "behind"},
            -2039,
            "Client order ID is not correct for this order ID.",
        ),
        ("1.00001", {"order_id": 1}, -1013, "Filter failure: LOT_SIZE"),
        ("1", {"order_id": 1, "new_client_order_id": "taken"}, -2038, "Duplicate order sent."),
    ],
)
def test_amend__refusals_leave_the_order_alone(
    desk: Desk, quantity: str, ids: dict[str, Any], code: int, message: str
) -> None:
    desk.limit("alice", "BUY", "1", "80", client_order_id="taken")
    desk.events()
    with pytest.raises(EngineError) as caught:
        amend(desk, quantity, **ids)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert desk.engine.order("alice", "AAABBB", orig_client_order_id="mine").quantity == units("2")
    assert desk.events() == []


def test_amend__where_account_symbol_or_market_forbid_it() -> None:
    desk = Desk(replace(PLAIN, amend_allowed=False))
    desk.limit("alice", "BUY", "2", "100")
    with pytest.raises(EngineError, match="not supported for this symbol"):
        amend(desk, "1")
    desk.engine.change_symbol("AAABBB", amend_allowed=True)
    desk.account("alice").can_trade = False
    with pytest.raises(EngineError, match="may not place or cancel"):
        amend(desk, "1")
    desk.account("alice").can_trade = True
    desk.engine.set_status("AAABBB", SymbolStatus.HALT)
    with pytest.raises(EngineError, match="Market is closed"):
        amend(desk, "1")


def test_amend__only_so_often() -> None:
    rule = {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": 2}
    desk = Desk(replace(PLAIN, filters=(*PLAIN.filters, rule)))
    desk.limit("alice", "BUY", "5", "100")
    amend(desk, "4"), amend(desk, "3")
    with pytest.raises(EngineError) as caught:
        amend(desk, "2")
    assert (caught.value.code, caught.value.message) == (
        -2038,
        "Filter failure: MAX_NUM_ORDER_AMENDS",
    )
