"""Check weighted average cost, as a table and by property."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.types import EXACT, Side
from orders.positions.average_cost import Holding, Trade, apply_trades, in_order

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EMPTY = Holding("BTC", "USDT")
D = Decimal


def trade(
    side: str, quantity: str, quote: str, fee: str = "0", asset: str = "", number: int = 1
) -> Trade:
    return Trade(Side(side), D(quantity), D(quote), D(fee), asset, NOW, str(number))


# trades -> quantity, cost, realized
TABLE: dict[str, tuple[list[Trade], tuple[str, str, str]]] = {
    "a buy": ([trade("BUY", "2", "200")], ("2", "200", "0")),
    "two buys average": ([trade("BUY", "1", "100"), trade("BUY", "3", "500")], ("4", "600", "0")),
    "a sell takes the average": (
        [trade("BUY", "1", "100"), trade("BUY", "3", "500"), trade("SELL", "2", "400")],
        ("2", "300", "100"),
    ),
    "all sold leaves nothing": (
        [trade("BUY", "3", "100"), trade("SELL", "3", "90")],
        ("0", "0", "-10"),
    ),
    "a third is rounded and the rest keeps it": (
        [trade("BUY", "3", "100"), trade("SELL", "1", "40")],
        ("2", "66.666666666666666667", "6.666666666666666667"),
    ),
    "commission in quote: dearer": ([trade("BUY", "1", "100", "0.1", "USDT")], ("1", "100.1", "0")),
    "commission in quote: earns less": (
        [trade("BUY", "1", "100"), trade("SELL", "1", "110", "0.11", "USDT")],
        ("0", "0", "9.89"),
    ),
    "commission in base: less for the same": (
        [trade("BUY", "1", "100", "0.001", "BTC")],
        ("0.999", "100", "0"),
    ),
    "commission in base on a sell: lost at cost": (
        [trade("BUY", "2", "200"), trade("SELL", "1", "110", "0.5", "BTC")],
        ("0.5", "50", "-40"),
    ),
    "commission in BNB: apart": ([trade("BUY", "1", "100", "0.0002", "BNB")], ("1", "100", "0")),
    "sold without having: negative": ([trade("SELL", "1", "100")], ("-1", "-100", "0")),
    "bought back": ([trade("SELL", "1", "100"), trade("BUY", "1", "90")], ("0", "0", "10")),
    "bought back in part": (
        [trade("SELL", "4", "400"), trade("BUY", "1", "90")],
        ("-3", "-300", "10"),
    ),
    "through zero downwards": (
        [trade("BUY", "1", "100"), trade("SELL", "3", "330")],
        ("-2", "-220", "10"),
    ),
    "through zero upwards": (
        [trade("SELL", "1", "100"), trade("BUY", "3", "270")],
        ("2", "180", "10"),
    ),
    "commission in base leaves a debt": (
        [trade("SELL", "1", "100"), trade("BUY", "1", "90", "0.001", "BTC")],
        ("-0.001", "0", "10"),
    ),
    "nothing paid": ([trade("BUY", "1", "0")], ("1", "0", "0")),
}


@pytest.mark.parametrize("name", TABLE)
def test_fold__follows_the_rule(name: str) -> None:
    trades, expected = TABLE[name]
    holding = apply_trades(EMPTY, trades)
    assert (holding.quantity, holding.cost, holding.realized) == tuple(map(D, expected))
    assert holding.trades == len(trades)


def test_fold__adds_commissions_in_other_assets_up_apart() -> None:
    fees = [
        trade("BUY", "1", "100", "0.1", "BNB"),
        trade("SELL", "1", "100", "0.2", "BNB"),
        trade("BUY", "1", "1"),
    ]
    assert apply_trades(EMPTY, fees).fees == {"BNB": D("0.3")}


def test_holding__average_cost_and_unrealized() -> None:
    holding = apply_trades(EMPTY, [trade("BUY", "3", "100")])
    assert holding.average_cost == D("33.333333333333333333")
    assert holding.unrealized(D(40)) == D(20)
    assert apply_trades(EMPTY, [trade("SELL", "1", "100")]).unrealized(D(90)) == D(10)
    assert EMPTY.average_cost is None


def test_in_order__puts_trades_of_one_millisecond_by_their_number() -> None:
    later = Trade(Side.BUY, D(1), D(1), D(0), "", NOW + timedelta(milliseconds=1), "3")
    trades = [later, trade("BUY", "1", "1", number=10), trade("BUY", "1", "1", number=9)]
    assert [one.trade_id for one in in_order(trades)] == ["9", "10", "3"]


amounts = st.integers(1, 10**14).map(lambda number: D(number).scaleb(-8))
trades = st.builds(
    Trade,
    side=st.sampled_from(Side),
    quantity=amounts,
    quote_quantity=amounts,
    commission=st.integers(0, 10**6).map(lambda number: D(number).scaleb(-8)),
    commission_asset=st.sampled_from(["BTC", "USDT", "BNB", ""]),
    traded_at=st.just(NOW),
    trade_id=st.integers(1, 10**9).map(str),
)


@given(st.lists(trades, max_size=30), st.integers(0, 30))
def test_fold__in_parts_equals_the_fold_of_the_whole(history: list[Trade], cut: int) -> None:
    first = apply_trades(EMPTY, history[:cut])
    quantity, cost, realized = (
        D(f"{figure:.18f}") for figure in (first.quantity, first.cost, first.realized)
    )
    stored = replace(first, quantity=quantity, cost=cost, realized=realized)
    assert apply_trades(stored, history[cut:]) == apply_trades(EMPTY, history)


@given(st.lists(trades, max_size=30))
def test_fold__loses_nothing(history: list[Trade]) -> None:
    """Check that rounding never loses quantity or money."""
    holding = apply_trades(EMPTY, history)
    quantity = paid = D(0)
    for one in history:
        sign = 1 if one.side is Side.BUY else -1
        quantity = EXACT.add(quantity, sign * one.quantity)
        paid = EXACT.add(paid, sign * one.quote_quantity)
        quantity = EXACT.subtract(
            quantity, one.commission if one.commission_asset == "BTC" else D(0)
        )
        paid = EXACT.add(paid, one.commission if one.commission_asset == "USDT" else D(0))
    assert holding.quantity == quantity
    assert EXACT.subtract(holding.cost, holding.realized) == paid
