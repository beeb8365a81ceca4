"""List the symbols that the simulator has by default, with the exchange's own filters."""

from __future__ import annotations

from typing import Any, NamedTuple

from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import text, units


class _Row(NamedTuple):
    """State the varying values of a symbol as decimal strings.

    The exchange derives the market maximum from its volume.
    """

    base: str
    quote: str
    tick: str
    max_price: str
    step: str
    max_quantity: str
    max_market_quantity: str
    min_notional: str


# Binance Spot, exchangeInfo of 2024-09-08
_ROWS = (
    _Row("BTC", "USDT", "0.01", "1000000", "0.00001", "9000", "129.84957276", "5"),
    _Row("ETH", "USDT", "0.01", "1000000", "0.0001", "9000", "3125.75267907", "5"),
    _Row("BNB", "USDT", "0.1", "100000", "0.001", "900000", "4883.5223682", "5"),
    _Row("SOL", "USDT", "0.01", "10000", "0.001", "90000", "64306.31937238", "5"),
    _Row("XRP", "USDT", "0.0001", "10000", "1", "9222449", "4886361.72803347", "5"),
    _Row("DOGE", "USDT", "0.00001", "1000", "1", "9000000", "19499637.40167364", "1"),
    _Row("ETH", "BTC", "0.00001", "922327", "0.0001", "100000", "2255.71583723", "0.0001"),
)


def _amount(value: str) -> str:
    return text(units(value))


def _filters(row: _Row) -> tuple[dict[str, Any], ...]:
    return (
        {
            "filterType": "PRICE_FILTER",
            "minPrice": _amount(row.tick),
            "maxPrice": _amount(row.max_price),
            "tickSize": _amount(row.tick),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": _amount(row.step),
            "maxQty": _amount(row.max_quantity),
            "stepSize": _amount(row.step),
        },
        {"filterType": "ICEBERG_PARTS", "limit": 100},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": _amount("0"),
            "maxQty": _amount(row.max_market_quantity),
            "stepSize": _amount("0"),
        },
        {
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": 10,
            "maxTrailingAboveDelta": 2000,
            "minTrailingBelowDelta": 10,
            "maxTrailingBelowDelta": 2000,
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "5",
            "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5",
            "askMultiplierDown": "0.2",
            "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": _amount(row.min_notional),
            "applyMinToMarket": True,
            "maxNotional": _amount("9000000"),
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": 10},
    )


DEFAULT_SYMBOLS = tuple(
    SymbolSpec(
        symbol=row.base + row.quote,
        base_asset=row.base,
        quote_asset=row.quote,
        filters=_filters(row),
    )
    for row in _ROWS
)
