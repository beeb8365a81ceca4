"""Count unfilled orders as in the published examples."""

from __future__ import annotations

import pytest

from exchanges.simulator.engine.types import EngineError, Order, OrderLimit
from tests.exchanges.simulator.engine.desk import Desk

TEN_SECONDS = OrderLimit("SECOND", 10, 5)
DAY = OrderLimit("DAY", 1, 8)


@pytest.fixture
def desk() -> Desk:
    return Desk(order_limits=(TEN_SECONDS, DAY))


def count(desk: Desk, limit: OrderLimit = TEN_SECONDS) -> int:
    return desk.engine.order_counts("alice")[limit]


def resting(desk: Desk) -> Order:
    return desk.limit("alice", "BUY", "2", "90")


def test_counts__a_first_fill_as_taker_gives_one_back(desk: Desk) -> None:
    resting(desk)
    assert count(desk) == 1
    desk.limit("bob", "SELL", "1", "100")
    desk.limit("alice", "BUY", "2", "100")
    assert count(desk) == 1
    desk.limit("bob", "SELL", "1", "100")
    assert count(desk) == 1  # its second fill gives no credit


def test_counts__a_first_fill_as_maker_gives_more_back_never_below_zero(desk: Desk) -> None:
    first, *_ = [resting(desk) for _ in range(4)]
    desk.engine.fill("AAABBB", first.order_id, 10_000_000)
    assert count(desk) == 0
    resting(desk)
    desk.engine.fill("AAABBB", first.order_id, 10_000_000)
    assert count(desk) == 1


def test_counts__cancels_and_expiries_give_nothing_back_refusals_count_nothing(desk: Desk) -> None:
    desk.engine.cancel("alice", "AAABBB", order_id=resting(desk).order_id)
    desk.limit("alice", "BUY", "1", "100", time_in_force="FOK")
    with pytest.raises(EngineError):
        desk.limit("alice", "BUY", "1", "0.001")
    assert count(desk) == 2


def test_counts__windows_are_fixed_to_the_clock(desk: Desk) -> None:
    desk.now -= desk.now % 10_000_000
    desk.later(9)
    resting(desk)
    desk.later(0.999999)
    assert count(desk) == 1
    desk.later(0.000001)
    assert (count(desk), count(desk, DAY)) == (0, 1)


def test_counts__fills_count_today_whenever_the_order_was_placed(desk: Desk) -> None:
    order = resting(desk)
    desk.later(86_400)
    resting(desk)
    assert count(desk, DAY) == 1
    desk.engine.fill("AAABBB", order.order_id)
    assert count(desk, DAY) == 0


def test_exceeded_order_limit__names_the_limit_the_next_order_breaks(desk: Desk) -> None:
    for _ in range(5):
        assert desk.engine.exceeded_order_limit("alice") is None
        resting(desk)
    assert desk.engine.exceeded_order_limit("alice") is TEN_SECONDS
    assert desk.engine.exceeded_order_limit("bob") is None
    desk.later(10)
    for _ in range(3):
        desk.engine.count_order("alice")
    assert desk.engine.exceeded_order_limit("alice") is DAY
    assert desk.engine.order_counts("alice") == {TEN_SECONDS: 3, DAY: 8}


def test_exceeded_order_limit__zero_is_no_limit() -> None:
    desk = Desk(order_limits=(OrderLimit("SECOND", 10, 0),))
    for _ in range(20):
        resting(desk)
    assert desk.engine.exceeded_order_limit("alice") is None


def test_set_order_limits__starts_the_counts_anew(desk: Desk) -> None:
    resting(desk)
    limit = OrderLimit("SECOND", 10, 1)
    desk.engine.set_order_limits([limit])
    assert desk.engine.order_counts("alice") == {limit: 0}
    resting(desk)
    assert desk.engine.exceeded_order_limit("alice") is limit
