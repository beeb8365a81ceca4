"""Check the parameters that each order type needs and forbids, and the refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exchanges.simulator.engine.enums import OrderType
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import EngineError
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, request

VALID: dict[str, dict[str, Any]] = {
    "LIMIT": {"time_in_force": "GTC", "quantity": "1", "price": "10"},
    "LIMIT_MAKER": {"quantity": "1", "price": "10"},
    "MARKET": {"quantity": "1"},
    "STOP_LOSS": {"quantity": "1", "stop_price": "10"},
    "TAKE_PROFIT": {"quantity": "1", "stop_price": "10"},
    "STOP_LOSS_LIMIT": {"time_in_force": "GTC", "quantity": "1", "price": "10", "stop_price": "10"},
    "TAKE_PROFIT_LIMIT": {
        "time_in_force": "GTC",
        "quantity": "1",
        "price": "10",
        "stop_price": "10",
    },
}
API = {
    "time_in_force": "timeInForce",
    "quantity": "quantity",
    "quote_quantity": "quoteOrderQty",
    "price": "price",
    "stop_price": "stopPrice",
    "trailing_delta": "trailingDelta",
    "iceberg_quantity": "icebergQty",
}
SOME: dict[str, Any] = {
    "time_in_force": "GTC",
    "quantity": "1",
    "quote_quantity": "1",
    "price": "10",
    "stop_price": "10",
    "trailing_delta": 100,
    "iceberg_quantity": "0.5",
}
FORBIDDEN = {
    "LIMIT": ["quote_quantity", "stop_price", "trailing_delta"],
    "LIMIT_MAKER": ["time_in_force", "quote_quantity", "stop_price", "trailing_delta"],
    "MARKET": [
        "time_in_force",
        "price",
        "stop_price",
        "trailing_delta",
        "iceberg_quantity",
        "quote_quantity",
    ],
    "STOP_LOSS": ["time_in_force", "price", "quote_quantity", "iceberg_quantity"],
    "TAKE_PROFIT": ["time_in_force", "price", "quote_quantity", "iceberg_quantity"],
    "STOP_LOSS_LIMIT": ["quote_quantity"],
    "TAKE_PROFIT_LIMIT": ["quote_quantity"],
}
MISSING = [
    (kind, name)
    for kind, fields in VALID.items()
    for name in fields
    if name != "stop_price" and kind != "MARKET"
]


def refusal(kind: str, fields: dict[str, Any], spec: SymbolSpec = PLAIN) -> tuple[int, str]:
    with pytest.raises(EngineError) as refused:
        Desk(spec).engine.place("alice", request("BUY", kind, **fields))
    return refused.value.code, refused.value.message


@pytest.mark.parametrize("kind", VALID)
def test_parameters__enough(kind: str) -> None:
    Desk().engine.place("alice", request("BUY", kind, **VALID[kind]))


@pytest.mark.parametrize(("kind", "name"), MISSING)
def test_parameters__missing(kind: str, name: str) -> None:
    assert refusal(kind, {**VALID[kind], name: None}) == (
        -1102,
        f"Mandatory parameter '{API[name]}' was not sent, was empty/null, or malformed.",
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in FORBIDDEN.items() for name in names]
)
def test_parameters__superfluous(kind: str, name: str) -> None:
    assert refusal(kind, {**VALID[kind], name: SOME[name]}) == (
        -1106,
        f"Parameter '{API[name]}' sent when not required.",
    )


@pytest.mark.parametrize(
    ("kind", "fields", "code", "message"),
    [
        (
            "MARKET",
            {},
            -1102,
            "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!",
        ),
        (
            "STOP_LOSS",
            {"quantity": "1"},
            -1102,
            "Param 'stopPrice' or 'trailingDelta' must be sent, but both were empty/null!",
        ),
        ("LIMIT", {**VALID["LIMIT"], "quantity": "0"}, -1013, "Invalid quantity."),
        ("LIMIT", {**VALID["LIMIT"], "price": "0"}, -1013, "Invalid price."),
        ("MARKET", {"quote_quantity": "0"}, -1013, "Invalid quote order qty."),
        (
            "LIMIT",
            {**VALID["LIMIT"], "iceberg_quantity": "1.001"},
            -1013,
            "IcebergQty exceeds QTY.",
        ),
        (
            "LIMIT",
            {**VALID["LIMIT"], "iceberg_quantity": "0.5", "time_in_force": "IOC"},
            -1014,
            "Unsupported order combination.",
        ),
        (
            "LIMIT",
            {**VALID["LIMIT"], "strategy_type": 999_999},
            -1134,
            "`strategyType` was less than 1000000.",
        ),
    ],
)
def test_parameters__refusals(kind: str, fields: dict[str, Any], code: int, message: str) -> None:
    assert refusal(kind, fields) == (code, message)


def test_parameters__product_that_rounds_to_nothing() -> None:
    fields = {"quantity": "0.00000009", "price": "0.1"}
    assert refusal("LIMIT", fields, replace(PLAIN, filters=())) == (
        -1013,
        "Price * QTY is zero or less.",
    )


@pytest.mark.parametrize(
    ("change", "kind", "fields", "message"),
    [
        (
            {"order_types": (OrderType.LIMIT,)},
            kind,
            VALID[kind],
            f"{words} orders are not supported for this symbol.",
        )
        for kind, words in (
            ("MARKET", "Market"),
            ("STOP_LOSS", "Stop loss"),
            ("STOP_LOSS_LIMIT", "Stop loss limit"),
            ("TAKE_PROFIT", "Take profit"),
            ("TAKE_PROFIT_LIMIT", "Take profit limit"),
        )
    ]
    + [
        (
            {"iceberg_allowed": False},
            "LIMIT",
            {**VALID["LIMIT"], "iceberg_quantity": "0.5"},
            "Iceberg orders are not supported for this symbol.",
        ),
        (
            {"quote_order_qty_market_allowed": False},
            "MARKET",
            {"quote_quantity": "10"},
            "Quote order qty market orders are not support for this symbol.",
        ),
        (
            {"allow_trailing_stop": False},
            "STOP_LOSS",
            {"quantity": "1", "trailing_delta": 100},
            "Trailing stop orders are not supported for this symbol.",
        ),
    ],
)
def test_symbol__does_not_support_it(
    change: dict[str, Any], kind: str, fields: dict[str, Any], message: str
) -> None:
    assert refusal(kind, fields, replace(PLAIN, **change)) == (-1013, message)


def test_symbol__unknown() -> None:
    with pytest.raises(EngineError) as refused:
        Desk().engine.place("alice", request("BUY", "MARKET", symbol="NOPE", quantity="1"))
    assert (refused.value.code, refused.value.message) == (-1121, "Invalid symbol.")


def test_symbol__not_permitted_for_the_account() -> None:
    spec = replace(PLAIN, permission_sets=(("SPOT", "MARGIN"), ("TRD_GRP_005",)))
    assert refusal("MARKET", {"quantity": "1"}, spec) == (
        -2010,
        "This symbol is not permitted for this account.",
    )
    desk = Desk(spec)
    desk.account("alice").permissions = ("SPOT", "TRD_GRP_005")
    desk.place("alice", "BUY", "MARKET", quantity="1")
