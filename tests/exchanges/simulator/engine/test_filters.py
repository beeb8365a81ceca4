"""Check every filter on both sides of its boundary, with its code and text."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.engine.filters import compile_filters
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import EngineError, units
from tests.exchanges.simulator.engine.desk import Desk, request

PRICE = {"filterType": "PRICE_FILTER", "minPrice": "10", "maxPrice": "1000", "tickSize": "0.05"}
LOT = {"filterType": "LOT_SIZE", "minQty": "0.03", "maxQty": "50", "stepSize": "0.02"}
MARKET_LOT = {"filterType": "MARKET_LOT_SIZE", "minQty": "0.5", "maxQty": "2", "stepSize": "0"}
PERCENT = {
    "filterType": "PERCENT_PRICE",
    "multiplierUp": "1.3",
    "multiplierDown": "0.7",
    "avgPriceMins": 5,
}
BY_SIDE = {
    "filterType": "PERCENT_PRICE_BY_SIDE",
    "bidMultiplierUp": "1.2",
    "bidMultiplierDown": "0.2",
    "askMultiplierUp": "5",
    "askMultiplierDown": "0.8",
    "avgPriceMins": 1,
}
MIN_NOTIONAL = {
    "filterType": "MIN_NOTIONAL",
    "minNotional": "10",
    "applyToMarket": True,
    "avgPriceMins": 5,
}
NOTIONAL = {
    "filterType": "NOTIONAL",
    "minNotional": "10",
    "applyMinToMarket": True,
    "maxNotional": "5000",
    "applyMaxToMarket": False,
    "avgPriceMins": 5,
}
PARTS = {"filterType": "ICEBERG_PARTS", "limit": 10}
TRAILING = {
    "filterType": "TRAILING_DELTA",
    "minTrailingAboveDelta": 10,
    "maxTrailingAboveDelta": 2000,
    "minTrailingBelowDelta": 20,
    "maxTrailingBelowDelta": 1000,
}


def desk_with(*rules: dict[str, Any], **options: Any) -> Desk:
    desk = Desk(
        SymbolSpec(symbol="AAABBB", base_asset="AAA", quote_asset="BBB", filters=rules), **options
    )
    desk.trade_at("100")
    return desk


def limit(
    side: str = "BUY", quantity: str = "1", price: str = "100", **fields: Any
) -> dict[str, Any]:
    return {"side": side, "order_type": "LIMIT", "quantity": quantity, "price": price, **fields}


def market(side: str = "SELL", **fields: Any) -> dict[str, Any]:
    return {"side": side, "order_type": "MARKET", **fields}


def stop(
    side: str, order_type: str, stop_price: str | None = None, **fields: Any
) -> dict[str, Any]:
    return {
        "side": side,
        "order_type": order_type,
        "quantity": "1",
        "stop_price": stop_price,
        **fields,
    }


# filter, its name in the answer, accepted, refused
BOUNDARIES: list[tuple[dict[str, Any], str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        PRICE,
        "PRICE_FILTER",
        [
            limit(price="10"),
            limit(price="1000"),
            limit(price="99.95"),
            stop("BUY", "STOP_LOSS", "1000"),
        ],
        [
            limit(price="9.95"),
            limit(price="1000.05"),
            limit(price="99.99"),
            stop("BUY", "STOP_LOSS", "1000.05"),
            stop("SELL", "STOP_LOSS", "99.99"),
        ],
    ),
    ({**PRICE, "minPrice": "0"}, "PRICE_FILTER", [limit(price="0.05")], [limit(price="0.04")]),
    (
        {**PRICE, "maxPrice": "0"},
        "PRICE_FILTER",
        [limit(price="9000", quantity="0.02")],
        [limit(price="9000.01")],
    ),
    (
        {**PRICE, "tickSize": "0"},
        "PRICE_FILTER",
        [limit(price="99.99999999")],
        [limit(price="9.99999999")],
    ),
    (
        LOT,
        "LOT_SIZE",
        [
            limit(quantity="0.04"),
            limit(quantity="50"),
            limit(quantity="1", iceberg_quantity="0.1"),
            market(quantity="50"),
        ],
        [
            limit(quantity="0.02"),  # a multiple of the step, below the minimum
            limit(quantity="0.03"),
            # the minimum isn't a multiple of the step, which is a plain modulo
            limit(quantity="50.02"),
            limit(quantity="0.05"),
            limit(quantity="1", iceberg_quantity="0.11"),
            limit(quantity="1", iceberg_quantity="0.02"),
            market(quantity="50.02"),
        ],
    ),
    (
        MARKET_LOT,
        "MARKET_LOT_SIZE",
        [
            market(quantity="0.5"),
            market(quantity="2"),
            market(quantity="1.23456789"),
            limit(quantity="3"),
        ],
        [
            market(quantity="0.49"),
            market(quantity="2.00000001"),
            stop("SELL", "STOP_LOSS", "90") | {"quantity": "3"},
        ],
    ),
    (
        PERCENT,
        "PERCENT_PRICE",
        [limit(price="70"), limit(price="130"), limit("SELL", price="130")],
        [limit(price="69.99"), limit(price="130.01"), limit("SELL", price="130.01")],
    ),
    (
        BY_SIDE,
        "PERCENT_PRICE_BY_SIDE",
        [
            limit(price="20"),
            limit(price="120"),
            limit("SELL", price="80"),
            limit("SELL", price="500"),
        ],
        [
            limit(price="19.99"),
            limit(price="120.01"),
            limit("SELL", price="79.99"),
            limit("SELL", price="500.01"),
        ],
    ),
    (
        MIN_NOTIONAL,
        "MIN_NOTIONAL",
        [limit(quantity="0.1"), market(quantity="0.1")],
        [limit(quantity="0.1", price="99.99999999"), market(quantity="0.09999999")],
    ),
    (
        {**MIN_NOTIONAL, "applyToMarket": False},
        "MIN_NOTIONAL",
        [market(quantity="0.01")],
        [limit(quantity="0.01")],
    ),
    (
        NOTIONAL,
        "NOTIONAL",
        [
            limit(quantity="0.1"),
            limit(quantity="50"),
            market(quantity="0.1"),
            market(quantity="51"),
        ],
        [limit(quantity="0.099"), limit(quantity="50.00000001"), market(quantity="0.09999999")],
    ),
    (
        {**NOTIONAL, "applyMaxToMarket": True},
        "NOTIONAL",
        [market(quantity="50")],
        [market(quantity="51")],
    ),
    (
        {**NOTIONAL, "applyMinToMarket": False},
        "NOTIONAL",
        [market(quantity="0.01")],
        [limit(quantity="0.01")],
    ),
    (
        PARTS,
        "ICEBERG_PARTS",
        [limit(quantity="10", iceberg_quantity="1")],
        [limit(quantity="10.00000001", iceberg_quantity="1")],
    ),
    (
        TRAILING,
        "TRAILING_DELTA",
        [
            stop("BUY", "STOP_LOSS", trailing_delta=10),
            stop("SELL", "TAKE_PROFIT", trailing_delta=2000),
            stop("SELL", "STOP_LOSS", trailing_delta=20),
            stop("BUY", "TAKE_PROFIT", trailing_delta=1000),
        ],
        [
            stop("BUY", "STOP_LOSS", trailing_delta=9),
            stop("SELL", "TAKE_PROFIT", trailing_delta=2001),
            stop("SELL", "STOP_LOSS", trailing_delta=19),
            stop("BUY", "TAKE_PROFIT", trailing_delta=1001),
        ],
    ),
]

ACCEPTED = [(rule, order) for rule, _, accepted, _ in BOUNDARIES for order in accepted]
REFUSED = [(rule, name, order) for rule, name, _, refused in BOUNDARIES for order in refused]


@pytest.mark.parametrize(("rule", "order"), ACCEPTED)
def test_filters__inside_the_boundary(rule: dict[str, Any], order: dict[str, Any]) -> None:
    desk_with(rule).engine.place("alice", request(**order))


@pytest.mark.parametrize(("rule", "name", "order"), REFUSED)
def test_filters__outside_the_boundary(
    rule: dict[str, Any], name: str, order: dict[str, Any]
) -> None:
    with pytest.raises(EngineError) as refused:
        desk_with(rule).engine.place("alice", request(**order))
    assert (refused.value.code, refused.value.message) == (-1013, f"Filter failure: {name}")


def test_filters__quote_amount_is_its_own_notional() -> None:
    desk = desk_with(NOTIONAL)
    desk.limit("bob", "SELL", "10", "100")
    desk.place("alice", "BUY", "MARKET", quote_quantity="10")
    with pytest.raises(EngineError, match="NOTIONAL"):
        desk.place("alice", "BUY", "MARKET", quote_quantity="9.99")


def test_filters__average_forgets_what_is_older_than_its_minutes() -> None:
    desk = desk_with(BY_SIDE)
    desk.later(59)
    desk.trade_at("300", "3")  # (100 * 1 + 300 * 3) / 4 = 250, and 1.2 times that is 300
    desk.place("alice", "BUY", "LIMIT", quantity="1", price="300")
    with pytest.raises(EngineError, match="PERCENT_PRICE_BY_SIDE"):
        desk.place("alice", "BUY", "LIMIT", quantity="1", price="300.01")
    desk.later(2)
    desk.place("alice", "BUY", "LIMIT", quantity="1", price="360")


def test_filters__zero_minutes_are_the_last_price() -> None:
    desk = desk_with({**BY_SIDE, "avgPriceMins": 0})
    desk.trade_at("200", "0.001")
    desk.place("alice", "BUY", "LIMIT", quantity="1", price="240")
    with pytest.raises(EngineError, match="PERCENT_PRICE_BY_SIDE"):
        desk.place("alice", "BUY", "LIMIT", quantity="1", price="240.01")


CAPS: list[tuple[dict[str, Any], str, dict[str, Any], dict[str, Any]]] = [
    # filter, its name in the answer, an order that counts, an order that doesn't
    ({"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 2}, "MAX_NUM_ORDERS", limit(price="50"), {}),
    (
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 2},
        "MAX_NUM_ALGO_ORDERS",
        stop("SELL", "STOP_LOSS", "90"),
        limit(price="50"),
    ),
    (
        {"filterType": "MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders": 2},
        "MAX_NUM_ICEBERG_ORDERS",
        limit(price="50", iceberg_quantity="0.5"),
        limit(price="50"),
    ),
]


@pytest.mark.parametrize(("rule", "name", "counted", "uncounted"), CAPS)
@pytest.mark.parametrize("scope", ["", "EXCHANGE_"])
def test_filters__open_orders_are_capped_by_the_engine(
    scope: str, rule: dict[str, Any], name: str, counted: dict[str, Any], uncounted: dict[str, Any]
) -> None:
    scoped = {**rule, "filterType": scope + name}
    desk = desk_with(exchange_filters=[scoped]) if scope else desk_with(scoped)
    for _ in range(2):
        placement = desk.engine.place("alice", request(**counted))
    with pytest.raises(EngineError) as refused:
        desk.engine.place("alice", request(**counted))
    assert (refused.value.code, refused.value.message) == (-2010, f"Filter failure: {scope}{name}")
    if uncounted:
        desk.engine.place("alice", request(**uncounted))
    desk.engine.place("bob", request(**counted))
    desk.engine.cancel("alice", "AAABBB", order_id=placement.order.order_id)
    desk.engine.place("alice", request(**counted))


def test_filters__algo_orders_count_as_orders_too() -> None:
    desk = desk_with({"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 1})
    desk.engine.place("alice", request(**stop("SELL", "STOP_LOSS", "90")))
    with pytest.raises(EngineError, match="MAX_NUM_ORDERS"):
        desk.engine.place("alice", request(**limit(price="50")))


def test_filters__max_position_counts_balance_and_open_buys() -> None:
    desk = desk_with({"filterType": "MAX_POSITION", "maxPosition": "1002"})
    desk.engine.place(
        "alice", request(**limit("SELL", quantity="500", price="200"))
    )  # locked amounts count, too
    desk.engine.place("alice", request(**limit(price="50", quantity="1.5")))
    with pytest.raises(EngineError) as refused:
        desk.engine.place("alice", request(**limit(price="50", quantity="0.51")))
    assert (refused.value.code, refused.value.message) == (-2010, "Filter failure: MAX_POSITION")
    desk.engine.place("alice", request(**limit(price="50", quantity="0.5")))


@pytest.mark.parametrize(
    ("asset", "order", "fits"),
    [
        ("AAA", limit(quantity="5"), True),
        ("AAA", limit(quantity="5.00000001"), False),
        ("BBB", limit(quantity="0.05"), True),
        ("BBB", limit(quantity="0.0500001"), False),
        ("BBB", market("BUY", quote_quantity="5.01"), False),
        ("AAA", market(quantity="5.01"), False),
        ("CCC", limit(quantity="900"), True),
    ],
)
def test_filters__max_asset_of_the_account(asset: str, order: dict[str, Any], fits: bool) -> None:
    desk = desk_with()
    desk.account("alice").asset_filters = (
        {"filterType": "MAX_ASSET", "asset": asset, "limit": "5"},
    )
    if fits:
        desk.engine.place("alice", request(**order))
        return
    with pytest.raises(EngineError) as refused:
        desk.engine.place("alice", request(**order))
    assert (refused.value.code, refused.value.message) == (-1013, "Filter failure: MAX_ASSET")


def test_compile_filters__unknown_filters_and_fields_are_left_alone() -> None:
    filters = compile_filters(
        [{**PRICE, "somethingNew": 1}, {"filterType": "FUTURE_FILTER", "x": "y"}]
    )
    assert filters.price.step == units("0.05")


def test_filters__max_position_knows_the_quantity_of_a_quote_amount() -> None:
    desk = desk_with({"filterType": "MAX_POSITION", "maxPosition": "1002"})
    desk.limit("bob", "SELL", "10", "100")
    with pytest.raises(EngineError, match="MAX_POSITION"):
        desk.place("alice", "BUY", "MARKET", quote_quantity="200.01")
    desk.place("alice", "BUY", "MARKET", quote_quantity="200")


def test_filters__quantity_of_a_quote_amount_keeps_to_the_market_lot_size() -> None:
    desk = desk_with(MARKET_LOT)
    desk.limit("bob", "SELL", "10", "100")
    for quote_quantity in ("49", "201"):
        with pytest.raises(EngineError, match="MARKET_LOT_SIZE"):
            desk.place("alice", "BUY", "MARKET", quote_quantity=quote_quantity)
    desk.place("alice", "BUY", "MARKET", quote_quantity="50")
