"""Convert units at the edge, read and show exchangeInfo, and place odd requests."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.enums import OrderType, Side, StpMode, SymbolStatus, TimeInForce
from exchanges.simulator.engine.filters import compile_filters
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import EngineError, NewOrder, text, to_decimal, units
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=8))
def test_units__there_and_back(number: Decimal) -> None:
    assert to_decimal(units(number)) == number
    assert Decimal(text(units(number))) == number
    assert len(text(units(number)).partition(".")[2]) == 8


@pytest.mark.parametrize("value", ["0.000000001", "NaN", "Infinity", "1.123456789"])
def test_units__what_does_not_fit(value: str) -> None:
    with pytest.raises(ValueError, match=r"decimals|finite"):
        units(value)


@pytest.mark.parametrize("spec", DEFAULT_SYMBOLS, ids=lambda spec: spec.symbol)
def test_symbol_spec__from_its_own_exchange_info(spec: SymbolSpec) -> None:
    row = {**spec.exchange_info(SymbolStatus.TRADING), "aFieldOfTomorrow": 1}
    assert SymbolSpec.from_exchange_info(row) == spec
    assert spec.exchange_info(SymbolStatus.HALT)["status"] == "HALT"


def test_default_symbols__have_their_filters() -> None:
    assert [spec.symbol for spec in DEFAULT_SYMBOLS] == [
        "BTCUSDT",
        "ETHUSDT",
        "BNBUSDT",
        "SOLUSDT",
        "XRPUSDT",
        "DOGEUSDT",
        "ETHBTC",
    ]
    for spec in DEFAULT_SYMBOLS:
        filters = compile_filters(spec.filters)
        assert filters.price.step
        assert filters.lot.step
        assert filters.market_lot.maximum
        assert filters.percent
        assert filters.notional[0].minimum
        assert filters.trailing is not None
        assert (filters.caps.orders, filters.caps.algo, filters.iceberg_parts) == (200, 5, 100)


AMOUNTS = st.none() | st.integers(0, 10**12) | st.sampled_from([1, 10**8, 10**10, 10**30])
REQUESTS = st.builds(
    NewOrder,
    symbol=st.just("AAABBB"),
    side=st.sampled_from(Side),
    order_type=st.sampled_from(OrderType),
    time_in_force=st.none() | st.sampled_from(TimeInForce),
    quantity=AMOUNTS,
    quote_quantity=AMOUNTS,
    price=AMOUNTS,
    stop_price=AMOUNTS,
    trailing_delta=st.none() | st.integers(0, 20_000),
    iceberg_quantity=AMOUNTS,
    client_order_id=st.none() | st.sampled_from(["", "a", "b"]),
    stp_mode=st.none() | st.sampled_from(StpMode),
    strategy_type=st.none() | st.integers(0, 2_000_000),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(REQUESTS, max_size=12), st.booleans())
def test_place__any_request_is_accepted_or_refused_with_a_code(
    requests: list[NewOrder], has_filters: bool
) -> None:
    desk = Desk(PLAIN if has_filters else replace(PLAIN, filters=()))
    desk.limit("bob", "SELL", "5", "101")
    desk.limit("bob", "BUY", "5", "99")
    for number, request in enumerate(requests):
        try:
            desk.engine.place("alice" if number % 2 else "bob", request)
        except EngineError as refusal:
            assert refusal.code < 0  # noqa: PT017 - a refusal is fine as long as it is one
            assert refusal.message  # noqa: PT017
        desk.trade_at("100")
        audit(desk.engine)
