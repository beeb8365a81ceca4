"""Delist, list and change symbols while orders are open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exchanges.simulator.engine.enums import OrderStatus, SymbolStatus
from exchanges.simulator.engine.types import EngineError
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit

OTHER = replace(PLAIN, symbol="CCCBBB", base_asset="CCC")


@pytest.fixture
def desk() -> Desk:
    return Desk(PLAIN, OTHER)


def refused(desk: Desk, account: str = "alice") -> int:
    with pytest.raises(EngineError) as caught:
        desk.limit(account, "BUY", "1", "100")
    return caught.value.code


def test_delist__expires_the_orders_and_hides_the_symbol(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "2", "100")
    desk.events()
    desk.engine.delist("AAABBB")
    assert order.status is OrderStatus.EXPIRED
    assert desk.story() == [("EXPIRED", "EXPIRED")]
    assert desk.balance("alice", "BBB") == ("1000000.00000000", "0.00000000")
    assert refused(desk) == -1121
    assert list(desk.engine.symbols) == ["CCCBBB"]
    assert desk.engine.open_orders("alice") == []
    audit(desk.engine)


def test_delist__archive_ends_orders_unheard_of(desk: Desk) -> None:
    desk.limit("alice", "BUY", "2", "100")
    desk.limit("bob", "SELL", "3", "100")
    desk.events()
    desk.engine.delist("AAABBB", archive=True)
    assert desk.events() == []
    assert desk.balance("bob", "AAA") == ("998.00000000", "0.00000000")
    desk.engine.relist("AAABBB")
    assert desk.engine.order("bob", "AAABBB", order_id=2).status is OrderStatus.EXPIRED
    audit(desk.engine)


def test_archive__answers_minus_2026_and_leaves_lists(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "2", "100")
    with pytest.raises(ValueError, match="closed"):
        desk.engine.archive("AAABBB", order.order_id)
    desk.engine.cancel("alice", "AAABBB", order_id=order.order_id)
    desk.engine.archive("AAABBB", order.order_id)
    with pytest.raises(EngineError) as caught:
        desk.engine.order("alice", "AAABBB", order_id=order.order_id)
    assert caught.value.code == -2026
    assert desk.engine.all_orders("alice", "AAABBB") == []


def test_relist__numbers_continue(desk: Desk) -> None:
    desk.limit("alice", "BUY", "2", "100")
    desk.engine.delist("AAABBB")
    with pytest.raises(ValueError, match="exists"):
        desk.engine.add_symbol(PLAIN)
    desk.engine.relist("AAABBB", SymbolStatus.BREAK)
    assert refused(desk) == -1013
    desk.engine.set_status("AAABBB", SymbolStatus.TRADING)
    assert desk.limit("alice", "BUY", "2", "100").order_id == 2


def test_change_symbol__spares_open_orders(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "0.002", "100.01")
    desk.engine.change_symbol(
        "AAABBB", filters={"LOT_SIZE": {"stepSize": "0.1"}, "PRICE_FILTER": {"tickSize": "1"}}
    )
    with pytest.raises(EngineError, match="LOT_SIZE"):
        desk.limit("alice", "BUY", "0.002", "100")
    with pytest.raises(EngineError, match="PRICE_FILTER"):
        desk.limit("alice", "BUY", "0.1", "100.01")
    desk.limit("bob", "SELL", "0.1", "100")
    assert order.status is OrderStatus.FILLED
    audit(desk.engine)


def test_change_symbol__adds_a_filter_and_refuses_nonsense(desk: Desk) -> None:
    values = {"minNotional": "10", "avgPriceMins": 7, "applyToMarket": True}
    desk.engine.change_symbol("AAABBB", filters={"MIN_NOTIONAL": values})
    with pytest.raises(EngineError, match="MIN_NOTIONAL"):
        desk.limit("alice", "BUY", "0.01", "100")
    desk.trade_at("100")
    with pytest.raises(EngineError, match="MIN_NOTIONAL"):
        desk.place("alice", "BUY", "MARKET", quantity="0.01")
    with pytest.raises(ValueError, match="filters"):
        desk.engine.change_symbol("AAABBB", filters={"LOT_SIZE": {"stepSize": "much"}})
    assert desk.engine.spec("AAABBB").filters[1]["stepSize"] == "0.001"


def test_forbidden_symbol__refuses_one_account(desk: Desk) -> None:
    order = desk.limit("alice", "BUY", "1", "90")
    desk.account("alice").forbidden_symbols.add("AAABBB")
    assert refused(desk) == -2010
    desk.limit("bob", "BUY", "1", "100")
    desk.engine.cancel("alice", "AAABBB", order_id=order.order_id)
    desk.engine.change_symbol("AAABBB", permission_sets=(("TRD_GRP_004",),))
    assert refused(desk, "bob") == -2010


def test_wipe__numbers_of_a_delisted_symbol_begin_again(desk: Desk) -> None:
    desk.limit("alice", "BUY", "2", "100")
    desk.engine.delist("AAABBB")
    desk.engine.wipe()
    desk.engine.relist("AAABBB")
    assert desk.limit("alice", "BUY", "2", "100").order_id == 1
    audit(desk.engine)
