"""Prevent self-trades as in the published scenarios, and check the books afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exchanges.simulator.engine.enums import StpMode
from exchanges.simulator.engine.types import EngineError, Order, units
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit


@pytest.fixture
def desk() -> Desk:
    return Desk()


def state(order: Order) -> tuple[str, int, int | None]:
    return order.status.value, order.prevented_quantity, order.prevented_match_id


def test_stp_none__the_account_trades_with_itself(desk: Desk) -> None:
    maker = desk.limit("alice", "BUY", "1", "1")
    taker = desk.limit("alice", "SELL", "1", "1", stp_mode="NONE")
    assert (maker.status, taker.status) == ("FILLED", "FILLED")
    assert desk.balance("alice", "BBB") == ("1000000.00000000", "0.00000000")
    audit(desk.engine)


def test_stp_expire_maker__the_taker_goes_on_and_rests(desk: Desk) -> None:
    makers = [
        desk.limit("alice", "BUY", quantity, price)
        for quantity, price in (("1.2", "1.2"), ("1.3", "1.1"))
    ]
    placement = desk.place(
        "alice", "SELL", "LIMIT", quantity="3", price="1", stp_mode="EXPIRE_MAKER"
    )
    assert [state(maker) for maker in makers] == [
        ("EXPIRED_IN_MATCH", units("1.2"), 0),
        ("EXPIRED_IN_MATCH", units("1.3"), 1),
    ]
    assert (placement.state.status, placement.state.prevented_quantity) == ("NEW", 0)
    assert [
        (
            match.prevented_match_id,
            match.maker_prevented_quantity,
            match.taker_prevented_quantity,
            match.price,
        )
        for match in placement.prevented_matches
    ] == [(0, units("1.2"), None, units("1.2")), (1, units("1.3"), None, units("1.1"))]
    assert desk.depth() == ([], [("1.00000000", "3.00000000")])
    audit(desk.engine)


def test_stp_expire_taker__the_makers_stay(desk: Desk) -> None:
    maker = desk.limit("alice", "BUY", "1.2", "1.2", stp_mode="EXPIRE_MAKER")
    placement = desk.place(
        "alice", "SELL", "LIMIT", quantity="3", price="1", stp_mode="EXPIRE_TAKER"
    )
    assert state(maker) == ("NEW", 0, None)
    assert state(placement.order) == ("EXPIRED_IN_MATCH", units("3"), 0)
    assert desk.depth() == ([("1.20000000", "1.20000000")], [])
    audit(desk.engine)


def test_stp_expire_both(desk: Desk) -> None:
    maker = desk.limit("alice", "BUY", "1", "1")
    placement = desk.place(
        "alice", "SELL", "LIMIT", quantity="3", price="1", stp_mode="EXPIRE_BOTH"
    )
    assert state(maker) == ("EXPIRED_IN_MATCH", units("1"), 0)
    assert state(placement.order) == ("EXPIRED_IN_MATCH", units("3"), 0)
    assert desk.depth() == ([], [])
    audit(desk.engine)


def test_stp_expire_maker__market_order_expires_for_want_of_others(desk: Desk) -> None:
    maker = desk.limit("alice", "BUY", "1", "1")
    placement = desk.place("alice", "SELL", "MARKET", quantity="1", stp_mode="EXPIRE_MAKER")
    assert maker.status == "EXPIRED_IN_MATCH"
    assert (placement.state.status, placement.state.prevented_quantity) == ("EXPIRED", 0)
    audit(desk.engine)


@pytest.mark.parametrize(
    ("maker_quantity", "taker_quantity", "maker_state", "taker_state", "left"),
    [
        ("6", "2", ("NEW", "2"), ("EXPIRED_IN_MATCH", "2"), ([("2.00000000", "4.00000000")], [])),
        ("2", "6", ("EXPIRED_IN_MATCH", "2"), ("NEW", "2"), ([], [("2.00000000", "4.00000000")])),
        ("2", "2", ("EXPIRED_IN_MATCH", "2"), ("EXPIRED_IN_MATCH", "2"), ([], [])),
    ],
)
def test_stp_decrement__both_lose_the_smaller_quantity(
    desk: Desk,
    maker_quantity: str,
    taker_quantity: str,
    maker_state: tuple[str, str],
    taker_state: tuple[str, str],
    left: tuple[list[tuple[str, str]], list[tuple[str, str]]],
) -> None:
    maker = desk.limit("alice", "BUY", maker_quantity, "2")
    taker = desk.limit("alice", "SELL", taker_quantity, "2", stp_mode="DECREMENT")
    assert (maker.status, maker.prevented_quantity) == (maker_state[0], units(maker_state[1]))
    assert (taker.status, taker.prevented_quantity) == (taker_state[0], units(taker_state[1]))
    assert desk.depth() == left
    audit(desk.engine)


def test_stp_decrement__what_is_left_trades_on(desk: Desk) -> None:
    desk.limit("alice", "BUY", "2", "3")
    desk.limit("bob", "BUY", "5", "2")
    taker = desk.limit("alice", "SELL", "6", "2", stp_mode="DECREMENT")
    assert (taker.status, taker.executed_quantity, taker.prevented_quantity) == (
        "FILLED",
        units("4"),
        units("2"),
    )
    audit(desk.engine)


def test_stp_transfer__settles_between_accounts_of_one_group_without_a_trade(desk: Desk) -> None:
    for name in ("alice", "bob"):
        desk.account(name).trade_group_id = 1
    maker = desk.limit("alice", "BUY", "0.6", "0.2", stp_mode="TRANSFER")
    placement = desk.place("bob", "SELL", "LIMIT", quantity="0.2", price="0.2", stp_mode="TRANSFER")
    assert (maker.status, maker.prevented_quantity) == ("NEW", units("0.2"))
    assert placement.state.status == "EXPIRED_IN_MATCH"
    assert placement.fills == ()
    assert desk.balance("alice", "AAA") == ("1000.20000000", "0.00000000")
    assert desk.balance("alice", "BBB") == ("999999.88000000", "0.08000000")
    assert desk.balance("bob", "AAA") == ("999.80000000", "0.00000000")
    assert desk.balance("bob", "BBB") == ("1000000.04000000", "0.00000000")
    audit(desk.engine)


def test_stp_transfer__is_decrement_when_the_maker_did_not_agree_or_is_the_same_account(
    desk: Desk,
) -> None:
    for name in ("alice", "bob"):
        desk.account(name).trade_group_id = 1
    desk.limit("alice", "BUY", "1", "1", stp_mode="DECREMENT")
    placement = desk.place("bob", "SELL", "LIMIT", quantity="1", price="1", stp_mode="TRANSFER")
    assert placement.prevented_matches[0].stp_mode is StpMode.DECREMENT
    assert desk.balance("bob", "AAA") == ("1000.00000000", "0.00000000")
    desk.limit("alice", "BUY", "1", "1", stp_mode="TRANSFER")
    desk.limit("alice", "SELL", "1", "1", stp_mode="TRANSFER")
    assert desk.balance("alice", "AAA") == ("1000.00000000", "0.00000000")
    audit(desk.engine)


def test_stp__trade_groups_count_as_one_account_strangers_do_not(desk: Desk) -> None:
    for name in ("alice", "bob"):
        desk.account(name).trade_group_id = 9
    desk.limit("alice", "BUY", "1", "1")
    assert desk.limit("bob", "SELL", "1", "1", stp_mode="EXPIRE_TAKER").status == "EXPIRED_IN_MATCH"
    assert desk.limit("carol", "SELL", "1", "1", stp_mode="EXPIRE_TAKER").status == "FILLED"


def test_stp__fill_or_kill_does_not_count_what_it_may_not_take(desk: Desk) -> None:
    desk.limit("alice", "BUY", "1", "2")
    desk.limit("bob", "BUY", "1", "2")
    taker = desk.limit("alice", "SELL", "2", "2", time_in_force="FOK", stp_mode="EXPIRE_MAKER")
    assert (taker.status, taker.expiry_reason) == ("EXPIRED", "UNFILLED_FOK_ORDER_EXPIRED")
    assert len(desk.engine.open_orders("alice")) == 1


def test_stp__reports_say_what_was_prevented(desk: Desk) -> None:
    maker = desk.limit("alice", "BUY", "6", "2")
    desk.events()
    taker = desk.limit("alice", "SELL", "2", "2", stp_mode="DECREMENT")
    _, told_maker, told_taker = desk.reports("alice")
    assert (told_maker.execution_type, told_maker.state.status, told_maker.on_book) == (
        "TRADE_PREVENTION",
        "NEW",
        True,
    )
    assert (told_taker.execution_type, told_taker.state.status) == (
        "TRADE_PREVENTION",
        "EXPIRED_IN_MATCH",
    )
    of_maker, of_taker = told_maker.prevention, told_taker.prevention
    assert of_maker is not None
    assert of_taker is not None
    assert (of_maker.counter_order_id, of_taker.counter_order_id) == (
        taker.order_id,
        maker.order_id,
    )
    assert of_taker.lost == of_taker.would_have_traded == units("2")
    assert (of_taker.match.price, of_taker.quote_quantity) == (units("2"), units("4"))
    assert told_taker.state.prevented_match_id == 0
    assert of_taker.match.symbol == "AAABBB"


def test_prevented_matches__by_id_order_and_from_id(desk: Desk) -> None:
    makers = [desk.limit("alice", "BUY", "1", price) for price in ("3", "2", "1")]
    taker = desk.limit("alice", "SELL", "1", "1", stp_mode="EXPIRE_MAKER")

    def ids(**criteria: int) -> list[int]:
        matches = desk.engine.prevented_matches("alice", "AAABBB", **criteria)
        return [match.prevented_match_id for match in matches]

    assert ids() == ids(order_id=taker.order_id) == [0, 1, 2]
    assert ids(order_id=makers[1].order_id) == ids(prevented_match_id=1) == [1]
    assert ids(from_prevented_match_id=1) == [1, 2]
    assert ids(order_id=taker.order_id, from_prevented_match_id=1, limit=1) == [1]
    assert desk.engine.prevented_matches("bob", "AAABBB") == []


def test_stp__mode_the_symbol_does_not_allow_is_refused() -> None:
    desk = Desk(replace(PLAIN, allowed_stp_modes=(StpMode.NONE,), default_stp_mode=StpMode.NONE))
    with pytest.raises(EngineError) as refused:
        desk.limit("alice", "BUY", "1", "1", stp_mode="DECREMENT")
    assert (refused.value.code, refused.value.message) == (
        -1013,
        "This symbol does not allow the specified self-trade prevention mode.",
    )


def test_stp__default_mode_of_the_symbol() -> None:
    desk = Desk(replace(PLAIN, default_stp_mode=StpMode.EXPIRE_TAKER))
    desk.limit("alice", "BUY", "1", "1")
    assert desk.limit("alice", "SELL", "1", "1").status == "EXPIRED_IN_MATCH"


def test_stp__fill_or_kill_knows_that_an_icebergs_next_slice_queues_behind_the_own_order(
    desk: Desk,
) -> None:
    desk.limit("bob", "BUY", "10", "2", iceberg_quantity="3")
    desk.limit("alice", "BUY", "1", "2")
    taker = desk.limit("alice", "SELL", "5", "2", time_in_force="FOK", stp_mode="EXPIRE_TAKER")
    assert (taker.status, taker.executed_quantity) == ("EXPIRED", 0)


def test_stp_transfer__a_market_buy_must_be_able_to_pay_for_what_is_transferred(desk: Desk) -> None:
    for name in ("alice", "bob"):
        desk.account(name).trade_group_id = 1
    desk.limit("bob", "SELL", "2", "600", stp_mode="TRANSFER")
    desk.engine.withdraw("alice", "BBB", units("999000"))
    with pytest.raises(EngineError, match="insufficient balance"):
        desk.place("alice", "BUY", "MARKET", quantity="2", stp_mode="TRANSFER")
    desk.place("alice", "BUY", "MARKET", quantity="1.5", stp_mode="TRANSFER")
    assert desk.balance("alice", "BBB") == ("100.00000000", "0.00000000")
    audit(desk.engine)
