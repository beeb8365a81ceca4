"""The value types: exact text and times, and the exchange's trading rules."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.instrument_rules import InstrumentRules, may_be_rounded
from exchanges.types import OrderType, Side, from_ms, plain, to_ms
from tests.exchanges.binance import binance_answers as binance

amounts = st.decimals(min_value="0.000000000000000001", max_value="99999999999999999999", places=18)
steps = st.sampled_from(
    [Decimal(text) for text in ("0.00000001", "0.00001", "0.01", "0.05", "0.25", "1", "3", "1000")]
)


def rules(**filters: dict[str, Any]) -> InstrumentRules:
    row = binance.exchange_info(
        filters=[{"filterType": name, **rule} for name, rule in filters.items()]
    )
    return InstrumentRules.from_exchange(row["symbols"][0])


# -- text and time -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("-0.00", "0"),
        ("0E+3", "0"),
        ("1E+2", "100"),
        ("100", "100"),
        ("0.10", "0.1"),
        ("1E-18", "0.000000000000000001"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("-1.50", "-1.5"),
    ],
)
def test_plain__is_digits_without_exponent_or_trailing_zeros(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
def test_plain__keeps_the_value(value: Decimal) -> None:
    text = plain(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert not text.endswith(".")


@given(st.integers(min_value=-(10**13), max_value=10**14))
def test_from_ms__and_to_ms_lose_nothing(milliseconds: int) -> None:
    moment = from_ms(milliseconds)
    assert moment.tzinfo is UTC
    assert to_ms(moment) == milliseconds


def test_to_ms__rounds_down() -> None:
    assert to_ms(datetime(2026, 2, 2, 2, 40, 0, 123_999, tzinfo=UTC)) == binance.PLACED_AT


# -- reading rules -------------------------------------------------------------------------------


def test_from_exchange__reads_what_is_there() -> None:
    found = InstrumentRules.from_exchange(binance.exchange_info()["symbols"][0])
    assert (found.symbol, found.base_asset, found.quote_asset, found.status) == (
        "BTCUSDT",
        "BTC",
        "USDT",
        "TRADING",
    )
    assert found.is_trading
    assert found.order_types == {"LIMIT", "LIMIT_MAKER", "MARKET"}
    assert found.quote_precision == 8
    assert found.quote_order_quantity_allowed
    assert found.figure("LOT_SIZE", "stepSize") == Decimal("0.00001")
    assert found.figure("LOT_SIZE", "unknown") == 0
    assert found.figure("UNKNOWN", "stepSize") == 0


@pytest.mark.parametrize("status", ["HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY", "SOMETHING_NEW"])
def test_is_trading__is_one_status_only(status: str) -> None:
    assert not InstrumentRules.from_exchange(
        binance.exchange_info(status=status)["symbols"][0]
    ).is_trading


def test_from_exchange__keeps_filters_that_it_does_not_know() -> None:
    found = rules(T_PLUS_SELL={"endTime": 7})
    assert found.filters["T_PLUS_SELL"] == {"filterType": "T_PLUS_SELL", "endTime": 7}
    assert (
        found.check(
            side=Side.BUY, order_type=OrderType.LIMIT, quantity=Decimal(1), price=Decimal(1)
        )
        is None
    )
    assert json.dumps(dict(found.filters))


# -- quantizing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "step", "expected"),
    [
        ("0.123456789", "0.00001", "0.12345"),
        ("0.00000999", "0.00001", "0"),
        ("0.00001", "0.00001", "0.00001"),
        ("7", "3", "6"),
        ("5", "0", "5"),
        ("99999999999999999999.999999999999999999", "0.00000001", "99999999999999999999.99999999"),
    ],
)
def test_quantize_quantity__rounds_down_to_the_step(
    quantity: str, step: str, expected: str
) -> None:
    found = rules(LOT_SIZE={"minQty": "1", "maxQty": "9", "stepSize": step})
    assert found.quantize_quantity(Decimal(quantity), is_market=False) == Decimal(expected)


def test_quantize_quantity__a_market_order_obeys_both_steps() -> None:
    found = rules(LOT_SIZE={"stepSize": "0.01"}, MARKET_LOT_SIZE={"stepSize": "0.5"})
    assert found.quantize_quantity(Decimal("1.239"), is_market=True) == Decimal("1.0")
    assert found.quantize_quantity(Decimal("1.239"), is_market=False) == Decimal("1.23")


def test_quantize_quantity__a_market_step_of_zero_is_off() -> None:
    found = rules(LOT_SIZE={"stepSize": "0.01"}, MARKET_LOT_SIZE={"stepSize": "0.00000000"})
    assert found.quantize_quantity(Decimal("1.239"), is_market=True) == Decimal("1.23")


@given(amounts, steps)
def test_quantize_quantity__is_the_largest_multiple_that_is_not_more(
    quantity: Decimal, step: Decimal
) -> None:
    found = rules(LOT_SIZE={"stepSize": str(step)})
    quantized = found.quantize_quantity(quantity, is_market=False)
    assert quantized <= quantity < quantized + step
    assert found.quantize_quantity(quantized, is_market=False) == quantized
    assert found._check_quantity("LOT_SIZE", quantized) is None


@given(amounts, steps, st.sampled_from(Side))
def test_quantize_price__is_never_worse_for_us(price: Decimal, tick: Decimal, side: Side) -> None:
    found = rules(PRICE_FILTER={"tickSize": str(tick)})
    quantized = found.quantize_price(price, side)
    if side is Side.BUY:
        assert quantized <= price < quantized + tick
    else:
        assert quantized - tick < price <= quantized
    assert found._check_price(quantized, "price") is None


@pytest.mark.parametrize(("side", "expected"), [(Side.BUY, "60000.12"), (Side.SELL, "60000.13")])
def test_quantize_price__rounds_a_buy_down_and_a_sell_up(side: Side, expected: str) -> None:
    found = rules(PRICE_FILTER={"tickSize": "0.01"})
    assert found.quantize_price(Decimal("60000.125"), side) == Decimal(expected)


def test_quantize_quote_quantity__rounds_down_to_the_precision() -> None:
    found = InstrumentRules.from_exchange(
        binance.exchange_info(quoteAssetPrecision=2)["symbols"][0]
    )
    assert found.quantize_quote_quantity(Decimal("99.999")) == Decimal("99.99")


# -- checking ------------------------------------------------------------------------------------

LOT = {"minQty": "0.001", "maxQty": "10", "stepSize": "0.001"}
PRICE = {"minPrice": "1", "maxPrice": "1000", "tickSize": "0.01"}


@pytest.mark.parametrize(
    ("filters", "order", "code"),
    [
        ({"LOT_SIZE": LOT}, {"quantity": "0.001"}, None),
        ({"LOT_SIZE": LOT}, {"quantity": "10"}, None),
        ({"LOT_SIZE": LOT}, {"quantity": "0.0009"}, "LOT_SIZE"),
        ({"LOT_SIZE": LOT}, {"quantity": "10.001"}, "LOT_SIZE"),
        ({"LOT_SIZE": LOT}, {"quantity": "0.0015"}, "LOT_SIZE"),
        ({"LOT_SIZE": {**LOT, "stepSize": "0"}}, {"quantity": "0.0015"}, None),
        (
            {"MARKET_LOT_SIZE": LOT},
            {"quantity": "11", "order_type": "MARKET", "price": None},
            "MARKET_LOT_SIZE",
        ),
        ({"MARKET_LOT_SIZE": LOT}, {"quantity": "11"}, None),
        ({"PRICE_FILTER": PRICE}, {"price": "1"}, None),
        ({"PRICE_FILTER": PRICE}, {"price": "0.99"}, "PRICE_FILTER"),
        ({"PRICE_FILTER": PRICE}, {"price": "1000.01"}, "PRICE_FILTER"),
        ({"PRICE_FILTER": PRICE}, {"price": "1.001"}, "PRICE_FILTER"),
        ({"PRICE_FILTER": {**PRICE, "maxPrice": "0.00000000"}}, {"price": "1000.01"}, None),
        ({"PRICE_FILTER": PRICE}, {"stop_price": "0.5"}, "PRICE_FILTER"),
        (
            {"PERCENT_PRICE": {"multiplierUp": "1.1", "multiplierDown": "0.9"}},
            {"price": "111", "reference_price": "100"},
            "PERCENT_PRICE",
        ),
        (
            {"PERCENT_PRICE": {"multiplierUp": "1.1", "multiplierDown": "0.9"}},
            {"price": "110", "reference_price": "100"},
            None,
        ),
        (
            {"PERCENT_PRICE": {"multiplierUp": "1.1", "multiplierDown": "0.9"}},
            {"price": "111"},
            None,
        ),
        (
            {
                "PERCENT_PRICE_BY_SIDE": {
                    "bidMultiplierUp": "1.2",
                    "bidMultiplierDown": "0.2",
                    "askMultiplierUp": "5",
                }
            },
            {"price": "121", "reference_price": "100"},
            "PERCENT_PRICE_BY_SIDE",
        ),
        (
            {
                "PERCENT_PRICE_BY_SIDE": {
                    "bidMultiplierUp": "1.2",
                    "bidMultiplierDown": "0.2",
                    "askMultiplierUp": "5",
                }
            },
            {"price": "121", "reference_price": "100", "side": "SELL"},
            None,
        ),
        (
            {"NOTIONAL": {"minNotional": "5", "maxNotional": "100"}},
            {"quantity": "1", "price": "5"},
            None,
        ),
        ({"NOTIONAL": {"minNotional": "5"}}, {"quantity": "1", "price": "4.99"}, "NOTIONAL"),
        (
            {"NOTIONAL": {"minNotional": "5", "maxNotional": "100"}},
            {"quantity": "1", "price": "101"},
            "NOTIONAL",
        ),
        (
            {"NOTIONAL": {"minNotional": "5", "applyMinToMarket": True}},
            {"quantity": "1", "price": None, "reference_price": "4", "order_type": "MARKET"},
            "NOTIONAL",
        ),
        (
            {"NOTIONAL": {"minNotional": "5", "applyMinToMarket": False}},
            {"quantity": "1", "price": None, "reference_price": "4", "order_type": "MARKET"},
            None,
        ),
        (
            {"NOTIONAL": {"minNotional": "5", "applyMinToMarket": True}},
            {"quantity": None, "quote_quantity": "4", "price": None, "order_type": "MARKET"},
            "NOTIONAL",
        ),
        ({"MIN_NOTIONAL": {"minNotional": "5"}}, {"quantity": "1", "price": "4"}, "MIN_NOTIONAL"),
        (
            {"MIN_NOTIONAL": {"minNotional": "5", "applyToMarket": True}},
            {"quantity": "1", "price": None, "order_type": "MARKET"},
            None,
        ),
    ],
)
def test_check__names_the_filter_that_is_broken(
    filters: dict[str, dict[str, Any]], order: dict[str, str | None], code: str | None
) -> None:
    figures = {
        "quantity": "1",
        "price": "100",
        "stop_price": None,
        "quote_quantity": None,
        "reference_price": None,
    }
    figures |= {name: value for name, value in order.items() if name in figures}
    violation = rules(**filters).check(
        side=Side(order.get("side") or "BUY"),
        order_type=OrderType(order.get("order_type") or "LIMIT"),
        **{name: None if text is None else Decimal(text) for name, text in figures.items()},
    )
    assert (violation.code if violation else None) == code
    if violation is not None:
        assert violation.text


@pytest.mark.parametrize("rounding", [ROUND_FLOOR, ROUND_CEILING])
@pytest.mark.parametrize(
    "step", ["10", "1", "0.5", "0.25", "0.1", "0.05", "0.02", "0.01", "0.001", "0.00001"]
)
@pytest.mark.parametrize("value", ["123.4567891", "60001.23456", "17", "0.9876543"])
def test_may_be_rounded__knows_an_amount_on_every_grid(
    value: str, step: str, rounding: str
) -> None:
    asked, size = Decimal(value), Decimal(step)
    sent = (asked / size).to_integral_value(rounding=rounding) * size

    assert may_be_rounded(asked, sent, rounding) is (sent > 0)
    assert not may_be_rounded(
        asked, sent + size if rounding == ROUND_FLOOR else sent - size, rounding
    )


@pytest.mark.parametrize(
    ("value", "rounded"), [("0.02", "0.01"), ("0.01", "0.02"), ("60001", "50001"), ("0.9", "0")]
)
def test_may_be_rounded__knows_another_amount(value: str, rounded: str) -> None:
    assert not may_be_rounded(Decimal(value), Decimal(rounded), ROUND_FLOOR)
