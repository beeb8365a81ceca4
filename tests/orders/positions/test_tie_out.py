"""Check the tie-out of fills and balances, as a table and by property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.types import Side
from orders.positions.tie_out import ZERO, Held, TieOut, Traded, tie_out

NOW = datetime(2026, 11, 22, tzinfo=UTC)
D = Decimal


def traded(side: str, quantity: str, quote: str, fee: str = "0", asset: str = "") -> Traded:
    return Traded("BTC", "USDT", Side(side), D(quantity), D(quote), D(fee), asset, NOW)


# trades, free + locked by asset -> bought, sold, fees, difference by asset
TABLE: dict[str, tuple[list[Traded], dict[str, str], dict[str, tuple[str, str, str, str]]]] = {
    "a buy from a deposit": (
        [traded("BUY", "2", "200", "0.002", "BTC")],
        {"BTC": "1.998", "USDT": "800"},
        {"BTC": ("2", "0", "0.002", "0"), "USDT": ("0", "200", "0", "1000")},
    ),
    "a sell with a fee in the quote asset": (
        [traded("SELL", "2", "200", "0.2", "USDT")],
        {"BTC": "0", "USDT": "199.8"},
        {"BTC": ("0", "2", "0", "2"), "USDT": ("200", "0", "0.2", "0")},
    ),
    "a fee in a third asset": (
        [traded("BUY", "2", "200", "0.01", "BNB")],
        {"BTC": "2", "USDT": "0", "BNB": "0.99"},
        {
            "BNB": ("0", "0", "0.01", "1"),
            "BTC": ("2", "0", "0", "0"),
            "USDT": ("0", "200", "0", "200"),
        },
    ),
    "a withdrawal": (
        [traded("BUY", "2", "200")],
        {"BTC": "0.5", "USDT": "0"},
        {"BTC": ("2", "0", "0", "-1.5"), "USDT": ("0", "200", "0", "200")},
    ),
    "an asset that the exchange doesn't list": (
        [traded("BUY", "2", "200"), traded("SELL", "2", "210")],
        {"USDT": "110"},
        {"BTC": ("2", "2", "0", "0"), "USDT": ("210", "200", "0", "100")},
    ),
    "a balance without a fill": ([], {"ETH": "3", "XRP": "0"}, {"ETH": ("0", "0", "0", "3")}),
}


@pytest.mark.parametrize(("trades", "totals", "expected"), [*TABLE.values()], ids=[*TABLE])
def test_tie_out__names_the_difference(
    trades: list[Traded],
    totals: dict[str, str],
    expected: dict[str, tuple[str, str, str, str]],
) -> None:
    held = {asset: Held(D(total), ZERO, as_of=NOW) for asset, total in totals.items()}
    found = tie_out(trades, held, if_unlisted=Held(ZERO, ZERO))
    assert [one.asset for one in found] == sorted(expected)
    for one in found:
        figures = (one.bought, one.sold, one.fees, one.difference)
        assert figures == tuple(map(D, expected[one.asset])), one.asset


def test_tie_out__knows_no_difference_before_the_first_reading() -> None:
    bitcoin, _tether = tie_out([traded("BUY", "2", "200")], {}, if_unlisted=None)
    assert (bitcoin.total, bitcoin.difference) == (None, None)
    assert bitcoin.explained == 2


@pytest.mark.parametrize(("seconds", "is_behind"), [(-1, True), (0, False), (1, False)])
def test_tie_out__notices_a_balance_from_before_the_last_fill(
    seconds: int, is_behind: bool
) -> None:
    as_of = NOW + timedelta(seconds=seconds)
    row = TieOut("BTC", last_at=NOW, held=Held(ZERO, ZERO, as_of=as_of))
    assert row.is_behind is is_behind


def test_tie_out__keeps_a_reservation_without_a_balance() -> None:
    (row,) = tie_out([], {"BTC": Held(ZERO, ZERO, D(1))}, if_unlisted=None)
    assert row.difference == 0


ASSETS = ["BNB", "BTC", "ETH", "USDT"]
units = st.integers(1, 10**38 - 1)  # of the last of 18 digits


def amount(number: int) -> Decimal:
    return D(f"{number}e-18")  # arithmetic would round to 28 digits


amounts = units.map(amount)
fills = st.lists(
    st.builds(
        Traded,
        st.sampled_from(["BTC", "ETH"]),
        st.sampled_from(["USDT", "BNB"]),
        st.sampled_from(list(Side)),
        amounts,
        amounts,
        st.just(ZERO) | amounts,
        st.sampled_from(ASSETS),
        st.just(NOW),
    ),
    max_size=12,
)


@given(fills, st.dictionaries(st.sampled_from(ASSETS), units))
def test_tie_out__finds_exactly_the_amounts_that_no_fill_moved(
    trades: list[Traded], opening: dict[str, int]
) -> None:
    """Play the fills on the opening balances as an exchange does, in whole units."""
    balance = {asset: opening.get(asset, 0) for asset in ASSETS}
    for one in trades:
        sign = 1 if one.side is Side.BUY else -1
        balance[one.base_asset] += sign * in_units(one.quantity)
        balance[one.quote_asset] -= sign * in_units(one.quote_quantity)
        balance[one.commission_asset] -= in_units(one.commission)
    held = {asset: Held(amount(total), ZERO, as_of=NOW) for asset, total in balance.items()}
    found = {one.asset: one.difference for one in tie_out(trades, held, if_unlisted=None)}
    assert set(opening) <= set(found)
    for asset, difference in found.items():
        assert difference == amount(opening.get(asset, 0)), asset


def in_units(value: Decimal) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * 10**18 // denominator
