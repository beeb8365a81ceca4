"""Binance's answers as the documentation shows them; each call gives a fresh one to change."""

from __future__ import annotations

from typing import Any

CLIENT_ORDER_ID = "bo-aaaaaaaaaaaaaaaaaaaaaaaaaa-1"
SYMBOL = "BTCUSDT"
ORDER_ID = 28
PLACED_AT = 1_770_000_000_123


def placed(**changes: Any) -> dict[str, Any]:
    """A LIMIT BUY that was filled by two trades, FULL."""
    return {
        "symbol": SYMBOL,
        "orderId": ORDER_ID,
        "orderListId": -1,
        "clientOrderId": CLIENT_ORDER_ID,
        "transactTime": PLACED_AT,
        "price": "60000.10000000",
        "origQty": "0.00300000",
        "executedQty": "0.00300000",
        "origQuoteOrderQty": "0.000000",
        "cummulativeQuoteQty": "179.99970000",
        "status": "FILLED",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "workingTime": PLACED_AT,
        "fills": [
            fill(tradeId=56, qty="0.00100000", price="60000.10000000"),
            fill(tradeId=57, qty="0.00200000", price="59999.80000000"),
        ],
        "selfTradePreventionMode": "NONE",
        **changes,
    }


def fill(**changes: Any) -> dict[str, Any]:
    return {
        "price": "60000.10000000",
        "qty": "0.00300000",
        "commission": "0.00000300",
        "commissionAsset": "BTC",
        "tradeId": 56,
        **changes,
    }


def canceled(**changes: Any) -> dict[str, Any]:
    row = placed(status="CANCELED", executedQty="0.00000000", cummulativeQuoteQty="0.00000000")
    del row["fills"], row["workingTime"]
    return {
        **row,
        "origClientOrderId": CLIENT_ORDER_ID,
        "clientOrderId": "cancelMyOrder1",
        **changes,
    }


def queried(**changes: Any) -> dict[str, Any]:
    """A LIMIT BUY, partly filled, as `GET /order` and the lists show it."""
    row = placed(
        status="PARTIALLY_FILLED", executedQty="0.00100000", cummulativeQuoteQty="60.00010000"
    )
    del row["fills"], row["transactTime"]
    return {
        **row,
        "stopPrice": "0.00000000",
        "icebergQty": "0.00000000",
        "time": PLACED_AT,
        "updateTime": PLACED_AT + 877,
        "isWorking": True,
        **changes,
    }


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": SYMBOL,
        "id": 56,
        "orderId": ORDER_ID,
        "orderListId": -1,
        "price": "60000.10000000",
        "qty": "0.00100000",
        "quoteQty": "60.00010000",
        "commission": "0.00000100",
        "commissionAsset": "BTC",
        "time": PLACED_AT + 877,
        "isBuyer": True,
        "isMaker": False,
        "isBestMatch": True,
        **changes,
    }


def account(**changes: Any) -> dict[str, Any]:
    return {
        "makerCommission": 10,
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "updateTime": PLACED_AT,
        "accountType": "SPOT",
        "balances": [
            {"asset": "BTC", "free": "0.10000000", "locked": "0.00000000"},
            {"asset": "USDT", "free": "1000.00000001", "locked": "12.50000000"},
        ],
        "permissions": ["SPOT"],
        **changes,
    }


def exchange_info(**changes: Any) -> dict[str, Any]:
    """Only what is read of it."""
    row = {
        "symbol": SYMBOL,
        "status": "TRADING",
        "baseAsset": "BTC",
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "quoteOrderQtyMarketAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000.00",
                "tickSize": "0.01",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": "0.00001",
                "maxQty": "9000.0",
                "stepSize": "0.00001",
            },
        ],
        **changes,
    }
    return {
        "timezone": "UTC",
        "serverTime": PLACED_AT,
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [row],
    }


def execution_report(**changes: Any) -> dict[str, Any]:
    """The order was filled in part by trade 56."""
    return {
        "e": "executionReport",
        "E": PLACED_AT + 878,
        "s": SYMBOL,
        "c": CLIENT_ORDER_ID,
        "S": "BUY",
        "o": "LIMIT",
        "f": "GTC",
        "q": "0.00300000",
        "p": "60000.10000000",
        "P": "0.00000000",
        "F": "0.00000000",
        "g": -1,
        "C": "",
        "x": "TRADE",
        "X": "PARTIALLY_FILLED",
        "r": "NONE",
        "i": ORDER_ID,
        "l": "0.00100000",
        "z": "0.00100000",
        "L": "60000.10000000",
        "n": "0.00000100",
        "N": "BTC",
        "T": PLACED_AT + 877,
        "t": 56,
        "I": 8641984,
        "w": False,
        "m": False,
        "M": True,
        "O": PLACED_AT,
        "Z": "60.00010000",
        "Y": "60.00010000",
        "Q": "0.00000000",
        "W": PLACED_AT,
        "V": "NONE",
        **changes,
    }
