from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from exchanges.instrument_rules import InstrumentRules
from exchanges.types import OrderType, Side
from orders.amounts import OrderAmounts
from orders.gate.checks import (
    TradingPermission,
    check_balance,
    check_duties,
    check_filters,
    check_instrument,
    check_permission,
    check_reducing,
    quantize,
)

D = Decimal
RULES = InstrumentRules.from_exchange(
    {
        "symbol": "BTCUSDT",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "status": "TRADING",
        "orderTypes": ["LIMIT", "MARKET"],
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "100", "stepSize": "0.001"},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0", "maxQty": "50", "stepSize": "0"},
            {
                "filterType": "NOTIONAL",
                "minNotional": "5",
                "maxNotional": "100000",
                "applyMinToMarket": True,
            },
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": "5",
                "bidMultiplierDown": "0.2",
                "askMultiplierUp": "4",
                "askMultiplierDown": "0.5",
            },
        ],
    }
)


def amounts(**changes: Any) -> OrderAmounts:
    base = {"side": Side.BUY, "order_type": OrderType.LIMIT, "quantity": D("0.01"),
            "quote_quantity": None, "price": D("60000"), "stop_price": None}  # fmt: skip
    return OrderAmounts(**{**base, **changes})


def permission(**changes: Any) -> TradingPermission:
    base = {"is_enabled": True, "trading_state": "ACTIVE", "trading_state_reason": "",
            "everything_halted": False, "halt_reason": ""}  # fmt: skip
    return TradingPermission(**{**base, **changes})


@pytest.mark.parametrize(
    ("changes", "side", "code"),
    [
        ({}, Side.BUY, None),
        ({"is_enabled": False}, Side.BUY, "ACCOUNT_DISABLED"),
        ({"trading_state": "HALTED"}, Side.SELL, "HALTED"),
        ({"everything_halted": True}, Side.SELL, "HALTED"),
        ({"scoped_halt": "the symbol is halted"}, Side.SELL, "HALTED"),
        ({"trading_state": "REDUCING"}, Side.BUY, "REDUCING"),
        ({"trading_state": "REDUCING"}, Side.SELL, None),
    ],
)
def test_check_permission__each_state(
    changes: dict[str, Any], side: Side, code: str | None
) -> None:
    denial = check_permission(permission(**changes), side)
    assert (denial.code if denial else None) == code


@pytest.mark.parametrize(("age", "code"), [(60.0, None), (60.1, "DUTY_STANDS_STILL")])
def test_check_duties__either_side_of_the_longest_age(age: float, code: str | None) -> None:
    denial = check_duties({"sweep": 1.0, "sync": age}, 60.0)
    assert (denial.code if denial else None) == code


ETHBTC = replace(RULES, symbol="ETHBTC", base_asset="ETH", quote_asset="BTC")


@pytest.mark.parametrize(
    ("state", "rules", "code"),
    [
        ("REDUCING", RULES, None),
        ("REDUCING", ETHBTC, "REDUCING"),  # exchanges one position for another
        ("ACTIVE", ETHBTC, None),
    ],
)
def test_check_reducing__a_sale_for_money_alone(
    state: str, rules: InstrumentRules, code: str | None
) -> None:
    denial = check_reducing(
        permission(trading_state=state, trading_state_reason="drill"),
        rules,
        in_money=rules is RULES,
    )
    assert (denial.code if denial else None) == code
    if denial:
        assert denial.text == (
            "a sale on ETHBTC buys BTC, which isn't money, and the account is reduce-only: drill"
        )


def test_check_instrument__unknown_not_trading_and_type() -> None:
    unknown = check_instrument(None, "NOPE", amounts())
    assert unknown is not None
    assert (unknown.code, "NOPE" in unknown.text) == ("UNKNOWN_INSTRUMENT", True)
    stop = check_instrument(RULES, "BTCUSDT", amounts(order_type=OrderType.STOP_LOSS))
    assert stop is not None
    assert stop.code == "ORDER_TYPE_NOT_SUPPORTED"
    assert check_instrument(RULES, "BTCUSDT", amounts()) is None


def test_check_instrument__not_trading_and_no_market_orders_by_quote_quantity() -> None:
    paused = check_instrument(replace(RULES, status="DELISTED"), "BTCUSDT", amounts())
    assert paused is not None
    assert (paused.code, paused.text) == ("INSTRUMENT_NOT_TRADING", "BTCUSDT has status DELISTED")
    by_quote = amounts(order_type=OrderType.MARKET, price=None, quantity=None, quote_quantity=D(25))
    assert check_instrument(RULES, "BTCUSDT", by_quote) is None
    refused = check_instrument(
        replace(RULES, quote_order_quantity_allowed=False), "BTCUSDT", by_quote
    )
    assert refused is not None
    assert refused.code == "ORDER_TYPE_NOT_SUPPORTED"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "BREAK"},  # the order waits
        {"order_types": frozenset()},  # the exchange didn't name any
        {"quote_order_quantity_allowed": False},  # and the order has no such amount
    ],
)
def test_check_instrument__lets_pass(changes: dict[str, Any]) -> None:
    assert check_instrument(replace(RULES, **changes), "BTCUSDT", amounts()) is None


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [
        (Side.BUY, "60000.019", "60000.01"),
        (Side.SELL, "60000.011", "60000.02"),
        (Side.SELL, "60000.01", "60000.01"),
    ],
)
def test_quantize__price_is_never_worse_for_us(side: Side, price: str, expected: str) -> None:
    assert quantize(RULES, amounts(side=side, price=D(price))).price == D(expected)


def test_quantize__quantity_goes_down() -> None:
    assert quantize(RULES, amounts(quantity=D("0.0199999"))).quantity == D("0.019")


@pytest.mark.parametrize(
    ("order_type", "expected"), [(OrderType.MARKET, "0.01"), (OrderType.LIMIT, "0.019")]
)
def test_quantize__a_market_order_has_a_step_of_its_own(
    order_type: OrderType, expected: str
) -> None:
    step = {"filterType": "MARKET_LOT_SIZE", "minQty": "0", "maxQty": "50", "stepSize": "0.01"}
    rules = replace(RULES, filters={**RULES.filters, "MARKET_LOT_SIZE": step})
    market = amounts(order_type=order_type, quantity=D("0.0199999"))
    assert quantize(rules, market).quantity == D(expected)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": D("0.001"), "price": D("5000")}, None),
        ({"quantity": D("0.001"), "price": D("4999.99")}, "NOTIONAL"),
        ({"quantity": D("0.0009")}, "ROUNDS_TO_ZERO"),
        ({"quantity": D("100"), "price": D("1000")}, None),
        ({"quantity": D("100.001"), "price": D("1")}, "LOT_SIZE"),
        ({"quantity": D("100"), "price": D("1000.01")}, "NOTIONAL"),
        ({"price": D("1000000"), "quantity": D("0.1")}, None),
        ({"price": D("1000000.01"), "quantity": D("0.05")}, "PRICE_FILTER"),
        ({"order_type": OrderType.MARKET, "price": None, "quantity": D("50")}, None),
        (
            {"order_type": OrderType.MARKET, "price": None, "quantity": D("50.001")},
            "MARKET_LOT_SIZE",
        ),
        (
            {
                "order_type": OrderType.MARKET,
                "price": None,
                "quantity": None,
                "quote_quantity": D("5"),
            },
            None,
        ),
        (
            {
                "order_type": OrderType.MARKET,
                "price": None,
                "quantity": None,
                "quote_quantity": D("4.99"),
            },
            "NOTIONAL",
        ),
    ],
)
def test_check_filters__either_side_of_each_boundary(
    changes: dict[str, Any], code: str | None
) -> None:
    asked = amounts(**changes)
    denial = check_filters(RULES, asked, quantize(RULES, asked))
    assert (denial.code if denial else None) == code


@pytest.mark.parametrize(
    ("changes", "last_price", "code"),
    [
        ({"price": D("12000")}, D(60000), None),
        ({"price": D("11999.99")}, D(60000), "PERCENT_PRICE_BY_SIDE"),
        ({"price": D("300000")}, D(60000), None),
        ({"price": D("300000.01")}, D(60000), "PERCENT_PRICE_BY_SIDE"),
        ({"side": Side.SELL, "price": D("240000")}, D(60000), None),
        ({"side": Side.SELL, "price": D("240000.01")}, D(60000), "PERCENT_PRICE_BY_SIDE"),
        ({"side": Side.SELL, "price": D("29999.99")}, D(60000), "PERCENT_PRICE_BY_SIDE"),
        ({"price": D("11999.99")}, None, None),  # the exchange knows
        ({"order_type": OrderType.MARKET, "price": None, "quantity": D("0.001")}, D(5000), None),
        (
            {"order_type": OrderType.MARKET, "price": None, "quantity": D("0.001")},
            D("4999.99"),
            "NOTIONAL",
        ),
    ],
)
def test_check_filters__filters_that_go_by_the_market(
    changes: dict[str, Any], last_price: Decimal | None, code: str | None
) -> None:
    asked = amounts(**changes)
    denial = check_filters(RULES, asked, quantize(RULES, asked), last_price)
    assert (denial.code if denial else None) == code


@pytest.mark.parametrize(
    ("changes", "free", "denied"),
    [
        ({}, "600", False),
        ({}, "599.99", True),
        ({"side": Side.SELL}, "0.01", False),
        ({"side": Side.SELL}, "0.009", True),
        (
            {
                "order_type": OrderType.MARKET,
                "price": None,
                "quantity": None,
                "quote_quantity": D("25"),
            },
            "24.9",
            True,
        ),
        (
            {"order_type": OrderType.MARKET, "price": None},
            "0",
            False,
        ),  # at the market's price, so the exchange decides
    ],
)
def test_check_balance__what_the_order_may_spend(
    changes: dict[str, Any], free: str, denied: bool
) -> None:
    denial = check_balance(RULES, amounts(**changes), D(free))
    assert (denial is not None) == denied
    if denial:
        assert (denial.code, free in denial.text) == ("INSUFFICIENT_BALANCE", True)


@pytest.mark.parametrize(("estimate", "denied"), [("600", False), ("600.01", True)])
def test_check_balance__estimates_what_a_market_order_may_spend(
    estimate: str, denied: bool
) -> None:
    market = amounts(order_type=OrderType.MARKET, price=None)
    assert (check_balance(RULES, market, D("600"), D(estimate)) is not None) == denied
