"""Check balances, commissions and deposits to the last unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exchanges.simulator.engine.events import BalanceUpdateEvent, ExternalLockEvent
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import Commission, EngineError, Rates, text, units
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit, positions

TENTH_OF_A_PERCENT = Commission(standard=Rates(maker=units("0.001"), taker=units("0.001")))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_balances__an_open_buy_locks_its_notional_a_sell_its_quantity(desk: Desk) -> None:
    desk.limit("alice", "BUY", "2", "10")
    desk.limit("alice", "SELL", "3", "20")
    assert desk.balance("alice", "BBB") == ("999980.00000000", "20.00000000")
    assert desk.balance("alice", "AAA") == ("997.00000000", "3.00000000")


def test_balances__price_improvement_is_free_again_at_once(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "9")
    desk.limit("alice", "BUY", "2", "10")
    assert desk.balance("alice", "BBB") == ("999981.00000000", "10.00000000")
    audit(desk.engine)


def test_balances__notional_is_rounded_down_and_adds_up_over_partial_fills(desk: Desk) -> None:
    spec = replace(PLAIN, filters=())
    desk = Desk(spec)
    desk.limit("alice", "BUY", "0.00000333", "0.33333333")
    for _ in range(3):
        desk.limit("bob", "SELL", "0.00000111", "0.33333333")
        audit(desk.engine)
    assert desk.balance("alice", "BBB") == (
        "999999.99999892",
        "0.00000000",
    )  # three times 36, not once 110
    assert desk.balance("bob", "BBB") == ("1000000.00000108", "0.00000000")


def test_balances__all_that_is_free_can_be_spent_and_no_more(desk: Desk) -> None:
    with pytest.raises(EngineError) as refused:
        desk.limit("alice", "BUY", "1000", "1000.01")
    assert (refused.value.code, refused.value.message) == (
        -2010,
        "Account has insufficient balance for requested action.",
    )
    desk.limit("alice", "BUY", "1000", "1000")
    assert desk.balance("alice", "BBB") == ("0.00000000", "1000000.00000000")
    with pytest.raises(EngineError, match="insufficient balance"):
        desk.limit("alice", "SELL", "1000.001", "2000")


def test_balances__market_buy_is_refused_unless_it_can_pay_for_all_of_it(desk: Desk) -> None:
    desk.limit("bob", "SELL", "10", "100")
    desk.limit("bob", "SELL", "10", "200")
    desk.engine.withdraw("alice", "BBB", units("997000.01"))
    with pytest.raises(EngineError, match="insufficient balance"):
        desk.place("alice", "BUY", "MARKET", quantity="20")
    desk.place("alice", "BUY", "MARKET", quantity="19.999")
    with pytest.raises(EngineError, match="insufficient balance"):
        desk.place("alice", "BUY", "MARKET", quote_quantity="1000")


def test_commission__is_taken_from_what_was_received(desk: Desk) -> None:
    desk.account("alice").commission = Commission(
        standard=Rates(maker=units("0.001"), taker=units("0.002"))
    )
    desk.account("bob").commission = Commission(
        standard=Rates(maker=units("0.0005"), seller=units("0.0001"))
    )
    desk.limit("bob", "SELL", "2", "100")
    fills = desk.place("alice", "BUY", "LIMIT", quantity="1", price="100").fills
    assert [(text(fill.commission), fill.commission_asset) for fill in fills] == [
        ("0.00200000", "AAA")
    ]
    assert desk.balance("alice", "AAA")[0] == "1000.99800000"
    assert desk.balance("bob", "BBB")[0] == "1000099.94000000"
    trade = desk.engine.trades("bob", "AAABBB")[0]
    assert (text(trade.commission), trade.commission_asset, trade.is_maker) == (
        "0.06000000",
        "BBB",
        True,
    )
    assert desk.engine.ledger.fees == {"AAA": units("0.002"), "BBB": units("0.06")}
    audit(desk.engine)


def test_commission__of_a_symbol_goes_before_the_accounts(desk: Desk) -> None:
    desk.account("alice").symbol_commissions["AAABBB"] = TENTH_OF_A_PERCENT
    desk.limit("bob", "SELL", "1", "100")
    assert desk.place("alice", "BUY", "MARKET", quantity="1").fills[0].commission == units("0.001")


BNB = replace(PLAIN, symbol="BNBBBB", base_asset="BNB")


def discount_desk(*others: SymbolSpec, bnb: str = "10") -> Desk:
    """Return a desk where 1 BNB = 260 BBB, as in the published example of commission rates."""
    desk = Desk(PLAIN, BNB, *others)
    rates = Commission(
        standard=Rates(maker=10, taker=20, buyer=30, seller=40),
        special=Rates(maker=1_000_000, taker=2_000_000, buyer=3_000_000, seller=4_000_000),
        tax=Rates(maker=112, taker=114, buyer=118, seller=116),
        discount_enabled_for_account=True,
        discount=units("0.25"),
    )
    desk.account("alice").commission = rates
    desk.engine.print_trade("BNBBBB", units("260"), units("1"))
    desk.engine.deposit("alice", "BNB", units(bnb))
    desk.limit("bob", "BUY", "0.5", "35000")
    return desk


def test_commission__discount_asset_pays_the_published_example() -> None:
    desk = discount_desk()
    fill = desk.place("alice", "SELL", "LIMIT", quantity="0.5", price="35000").fills[0]
    received = 35_000 * 0.5
    expected = received * (0.0000006 * 0.25 + 0.06 + 0.0000023) / 260
    assert fill.commission_asset == "BNB"
    assert abs(fill.commission / 1e8 - expected) < 3e-8
    assert desk.balance("alice", "BBB")[0] == "1017500.00000000"
    assert desk.balance("alice", "BNB")[0] == text(units("10") - fill.commission)
    audit(desk.engine)


def test_commission__without_enough_of_the_discount_asset_is_paid_in_full_from_the_received() -> (
    None
):
    desk = discount_desk(bnb="0.1")
    fill = desk.place("alice", "SELL", "LIMIT", quantity="0.5", price="35000").fills[0]
    assert fill.commission_asset == "BBB"
    assert text(fill.commission) == "1050.05075000"
    assert desk.balance("alice", "BNB")[0] == "0.10000000"
    audit(desk.engine)


def test_commission__converts_through_a_common_quote_asset() -> None:
    desk = discount_desk()
    desk.account("alice").commission = replace(
        TENTH_OF_A_PERCENT, discount_enabled_for_account=True, discount=units("0.75")
    )
    desk.limit("bob", "SELL", "1", "26000")
    desk.engine.cancel_all("bob", "AAABBB")
    desk.trade_at("26000")
    desk.limit("bob", "SELL", "1", "26000")
    fill = desk.place("alice", "BUY", "LIMIT", quantity="1", price="26000").fills[0]
    assert (text(fill.commission), fill.commission_asset) == (
        "0.07500000",
        "BNB",
    )  # 0.00075 AAA = 19.5 BBB
    audit(desk.engine)


@pytest.mark.parametrize(("first", "second", "fee"), [
    ("BBB", "CCC", "0.00037500"),
    ("CCC", "BBB", "0.00018750"),
])  # fmt: skip
def test_commission__converts_through_the_quote_asset_that_is_listed_first(
    first: str, second: str, fee: str
) -> None:
    """The order of a set of texts would make it differ from process to process."""
    specs = [
        replace(PLAIN, symbol=base + quote, base_asset=base, quote_asset=quote)
        for quote in (first, second)
        for base in ("AAA", "BNB")
    ]
    desk = Desk(*specs)
    for symbol, price in (("AAACCC", "100"), ("BNBBBB", "200"), ("BNBCCC", "400")):
        desk.engine.print_trade(symbol, units(price), units("1"))
    desk.account("alice").commission = replace(
        TENTH_OF_A_PERCENT, discount_enabled_for_account=True, discount=units("0.75")
    )
    desk.engine.deposit("alice", "BNB", units("1"))
    desk.trade_at("100")
    desk.limit("bob", "SELL", "1", "100")
    fill = desk.place("alice", "BUY", "MARKET", quantity="1").fills[0]
    assert (text(fill.commission), fill.commission_asset) == (fee, "BNB")


def test_deposit_and_withdraw__tell_delta_and_position(desk: Desk) -> None:
    desk.engine.deposit("alice", "CCC", units("5"))
    desk.engine.withdraw("alice", "CCC", units("2"))
    events = desk.events()
    assert [
        (event.asset, event.delta) for event in events if isinstance(event, BalanceUpdateEvent)
    ] == [
        ("CCC", units("5")),
        ("CCC", -units("2")),
    ]
    assert positions(events) == {"alice": {"CCC": (units("3"), 0)}}
    with pytest.raises(EngineError):
        desk.engine.withdraw("alice", "CCC", units("3.1"))
    audit(desk.engine)


def test_withdraw_and_external_lock__when_refused_tell_nobody_now_or_later(desk: Desk) -> None:
    for verb in (desk.engine.withdraw, desk.engine.external_lock):
        with pytest.raises(EngineError):
            verb("alice", "AAA", units("1000.1"))
    with pytest.raises(EngineError):
        desk.engine.external_lock("alice", "AAA", -1)
    desk.limit("bob", "BUY", "1", "1")
    assert {event.account_id for event in desk.events()} == {"bob"}


@pytest.mark.parametrize("amount", [0, -1])
def test_deposit_and_withdraw__take_positive_amounts_only(desk: Desk, amount: int) -> None:
    for verb in (desk.engine.deposit, desk.engine.withdraw):
        with pytest.raises(ValueError, match="positive"):
            verb("alice", "AAA", amount)
    assert desk.events() == []


def test_external_lock__locks_without_an_order(desk: Desk) -> None:
    desk.engine.external_lock("alice", "AAA", units("10"))
    assert desk.balance("alice", "AAA") == ("990.00000000", "10.00000000")
    assert [event.delta for event in desk.events() if isinstance(event, ExternalLockEvent)] == [
        units("10")
    ]
    with pytest.raises(EngineError):
        desk.engine.external_lock("alice", "AAA", -units("10.1"))
    desk.engine.external_lock("alice", "AAA", -units("10"))
    assert desk.balance("alice", "AAA") == ("1000.00000000", "0.00000000")
    audit(desk.engine)


def test_positions__tell_what_the_balances_are(desk: Desk) -> None:
    desk.limit("bob", "SELL", "1", "100")
    desk.limit("alice", "BUY", "2", "101")
    desk.engine.cancel_all("alice", "AAABBB")
    told = positions(desk.events())
    for account, rows in told.items():
        assert rows == {asset: desk.engine.balances(account)[asset] for asset in rows}
    assert set(told) == {"alice", "bob"}
