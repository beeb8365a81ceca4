"""Describe the answers as JSON schemas, from which `openapi` makes its document.

An object has exactly the fields that are listed for it. A field that ends with a question mark is
only there when it applies.
"""

from __future__ import annotations

from typing import Any

from exchanges.simulator.engine.enums import (
    ExpiryReason,
    OrderStatus,
    OrderType,
    Side,
    StpMode,
    SymbolStatus,
    TimeInForce,
)

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
DECIMAL: Schema = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{8}$"}
ZERO: Schema = {"type": "string", "const": "0"}
NOTHING: Schema = {"type": "object", "additionalProperties": False}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def words(kinds: type[Any]) -> Schema:
    return {"type": "string", "enum": [kind.value for kind in kinds]}


def rows(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def one_or_all(item: Schema) -> Schema:
    """Return the answer to `symbol`, which is one row, or to many symbols, which is a list."""
    return {"anyOf": [item, rows(item)]}


_KINDS: dict[str, Schema] = {
    "text": TEXT,
    "integer": INTEGER,
    "boolean": BOOLEAN,
    "decimal": DECIMAL,
    "zero": ZERO,
    "texts": rows(TEXT),
    "side": words(Side),
    "type": words(OrderType),
    "time": words(TimeInForce),
    "status": words(OrderStatus),
    "reason": words(ExpiryReason),
    "mode": words(StpMode),
}


def fields(listed: str, **special: Schema) -> Schema:
    """Return the schema of an object: `listed` has `kind: name name`, kinds separated by commas."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for part in listed.split(","):
        kind, _, names = part.partition(":")
        for name in names.split():
            properties[name.rstrip("?")] = _KINDS[kind.strip()]
            if not name.endswith("?"):
                required.append(name)
    required += special
    return {
        "type": "object",
        "properties": properties | special,
        "required": required,
        "additionalProperties": False,
    }


_ACK = "text: symbol clientOrderId, integer: orderId orderListId transactTime"
_PROGRESS = (
    "decimal: price origQty executedQty origQuoteOrderQty cummulativeQuoteQty, "
    "status: status, time: timeInForce, type: type, side: side, mode: selfTradePreventionMode"
)
_TRIGGER = "decimal: icebergQty?, integer: trailingDelta? trailingTime? strategyId? strategyType?"
_PREVENTED = "integer: preventedMatchId?, decimal: preventedQuantity?"
_CONDITIONAL = f"{_TRIGGER}, {_PREVENTED}, decimal: stopPrice?, reason: expiryReason?"
_RESULT = f"{_ACK}, {_PROGRESS}, {_CONDITIONAL}, integer: workingTime tradeGroupId?"
_MINI = (
    "text: symbol, decimal: openPrice highPrice lowPrice lastPrice volume quoteVolume, "
    "integer: openTime closeTime firstId lastId count"
)
_WINDOW = f"{_MINI}, decimal: priceChange weightedAvgPrice, text: priceChangePercent"
_BEST = "decimal: bidPrice bidQty askPrice askQty"
_KLINE = [INTEGER, *[DECIMAL] * 5, INTEGER, DECIMAL, INTEGER, DECIMAL, DECIMAL, ZERO]
_RATES = fields("decimal: maker taker buyer seller")
_ORDER_RATES = fields("decimal: maker taker")
_FILL = fields("decimal: price qty commission, text: commissionAsset, integer: tradeId")
_MATCHES = rows(
    fields(
        "integer: preventedMatchId makerOrderId, "
        "decimal: price takerPreventedQuantity? makerPreventedQuantity?"
    )
)


def _placed(listed: str, **special: Schema) -> Schema:
    """Return a placement's schema, which lists prevented matches only if there are any."""
    schema = fields(listed, **special)
    schema["properties"]["preventedMatches"] = _MATCHES
    return schema


SCHEMAS: dict[str, Schema] = {
    "Error": fields("integer: code, text: msg"),
    "Filter": {"type": "object", "properties": {"filterType": TEXT}, "required": ["filterType"]},
    "RateLimit": fields("text: rateLimitType interval, integer: intervalNum limit"),
    "OrderCount": fields("text: rateLimitType interval, integer: intervalNum limit count"),
    "Symbol": fields(
        "text: symbol baseAsset quoteAsset, "
        "integer: baseAssetPrecision quotePrecision quoteAssetPrecision baseCommissionPrecision "
        "quoteCommissionPrecision, "
        "boolean: icebergAllowed ocoAllowed otoAllowed opoAllowed quoteOrderQtyMarketAllowed "
        "allowTrailingStop cancelReplaceAllowed amendAllowed pegInstructionsAllowed "
        "isSpotTradingAllowed isMarginTradingAllowed, "
        "texts: permissions, mode: defaultSelfTradePreventionMode",
        status=words(SymbolStatus),
        orderTypes=rows(words(OrderType)),
        filters=rows(ref("Filter")),
        permissionSets=rows(rows(TEXT)),
        allowedSelfTradePreventionModes=rows(words(StpMode)),
    ),
    "PublicTrade": fields(
        "integer: id time, decimal: price qty quoteQty, boolean: isBuyerMaker isBestMatch"
    ),
    "AggregateTrade": fields("integer: a f l T, decimal: p q, boolean: m M"),
    "Kline": {
        "type": "array",
        "prefixItems": _KLINE,
        "minItems": len(_KLINE),
        "maxItems": len(_KLINE),
    },
    "MiniTicker": fields(_MINI),
    "WindowTicker": fields(_WINDOW),
    "DayTicker": fields(f"{_WINDOW}, {_BEST}, decimal: prevClosePrice lastQty"),
    "BookTicker": fields(f"text: symbol, {_BEST}"),
    "PlacementAck": fields(_ACK),
    "PlacementResult": _placed(_RESULT),
    "PlacementFull": _placed(_RESULT, fills=rows(_FILL)),
    "CanceledOrder": fields(f"{_ACK}, text: origClientOrderId, {_PROGRESS}, {_CONDITIONAL}"),
    "AmendedOrder": fields(
        "integer: orderId orderListId workingTime preventedMatchId?, "
        "text: symbol origClientOrderId clientOrderId, "
        "decimal: price qty executedQty preventedQty quoteOrderQty cumulativeQuoteQty stopPrice?, "
        "status: status, time: timeInForce, type: type, side: side, mode: selfTradePreventionMode, "
        f"reason: expiryReason?, {_TRIGGER}"
    ),
    "Order": fields(
        f"{_PROGRESS}, {_TRIGGER}, {_PREVENTED}, reason: expiryReason?, "
        "text: symbol clientOrderId, decimal: stopPrice icebergQty, boolean: isWorking, "
        "integer: orderId orderListId time updateTime workingTime"
    ),
    "Amendment": fields(
        "text: symbol origClientOrderId newClientOrderId, decimal: origQty newQty, "
        "integer: orderId executionId time"
    ),
    "Trade": fields(
        "text: symbol commissionAsset, integer: id orderId orderListId time, "
        "decimal: price qty quoteQty commission, boolean: isBuyer isMaker isBestMatch"
    ),
    "PreventedMatch": fields(
        "text: symbol makerSymbol, mode: selfTradePreventionMode, "
        "integer: preventedMatchId takerOrderId makerOrderId tradeGroupId transactTime, "
        "decimal: price takerPreventedQuantity? makerPreventedQuantity?"
    ),
    "Discount": fields(
        "boolean: enabledForAccount enabledForSymbol, text: discountAsset, decimal: discount"
    ),
    "Coin": fields(
        "text: coin name, decimal: free locked, "
        "boolean: depositAllEnable withdrawAllEnable isLegalMoney trading, "
        "zero: freeze withdrawing ipoing ipoable storage",
        networkList=rows(TEXT),
    ),
}

_TICKERS = {"anyOf": [one_or_all(ref("WindowTicker")), one_or_all(ref("MiniTicker"))]}
_PUBLIC_TRADES = rows(ref("PublicTrade"))
_KLINES = rows(ref("Kline"))
_LEVEL: Schema = {"type": "array", "items": DECIMAL, "minItems": 2, "maxItems": 2}
_EMPTY_LIST: Schema = {"type": "array", "maxItems": 0}

#: The answer to each operation that succeeds.
ANSWERS: dict[str, Schema] = {
    "GET /api/v3/ping": NOTHING,
    "GET /api/v3/time": fields("integer: serverTime"),
    "GET /api/v3/exchangeInfo": fields(
        "text: timezone, integer: serverTime",
        rateLimits=rows(ref("RateLimit")),
        exchangeFilters=rows(ref("Filter")),
        symbols=rows(ref("Symbol")),
    ),
    "GET /api/v3/depth": fields(
        "integer: lastUpdateId",
        bids=rows(_LEVEL),
        asks=rows(_LEVEL),
    ),
    "GET /api/v3/trades": _PUBLIC_TRADES,
    "GET /api/v3/historicalTrades": _PUBLIC_TRADES,
    "GET /api/v3/aggTrades": rows(ref("AggregateTrade")),
    "GET /api/v3/klines": _KLINES,
    "GET /api/v3/uiKlines": _KLINES,
    "GET /api/v3/avgPrice": fields("integer: mins closeTime, decimal: price"),
    "GET /api/v3/ticker/24hr": {
        "anyOf": [one_or_all(ref("DayTicker")), one_or_all(ref("MiniTicker"))]
    },
    "GET /api/v3/ticker/tradingDay": _TICKERS,
    "GET /api/v3/ticker": _TICKERS,
    "GET /api/v3/ticker/price": one_or_all(fields("text: symbol, decimal: price")),
    "GET /api/v3/ticker/bookTicker": one_or_all(ref("BookTicker")),
    "POST /api/v3/order": {
        "anyOf": [ref("PlacementAck"), ref("PlacementResult"), ref("PlacementFull")]
    },
    "POST /api/v3/order/test": {
        "anyOf": [
            NOTHING,
            fields(
                "",
                standardCommissionForOrder=_ORDER_RATES,
                specialCommissionForOrder=_ORDER_RATES,
                taxCommissionForOrder=_ORDER_RATES,
                discount=ref("Discount"),
            ),
        ]
    },
    "GET /api/v3/order": ref("Order"),
    "DELETE /api/v3/order": ref("CanceledOrder"),
    "PUT /api/v3/order/amend/keepPriority": fields(
        "integer: transactTime executionId", amendedOrder=ref("AmendedOrder")
    ),
    "GET /api/v3/order/amendments": rows(ref("Amendment")),
    "GET /api/v3/openOrders": rows(ref("Order")),
    "DELETE /api/v3/openOrders": rows(ref("CanceledOrder")),
    "GET /api/v3/allOrders": rows(ref("Order")),
    "GET /api/v3/myTrades": rows(ref("Trade")),
    "GET /api/v3/myPreventedMatches": rows(ref("PreventedMatch")),
    "GET /api/v3/myAllocations": _EMPTY_LIST,
    "GET /api/v3/account": fields(
        "integer: makerCommission takerCommission buyerCommission sellerCommission updateTime uid, "
        "boolean: canTrade canWithdraw canDeposit brokered requireSelfTradePrevention preventSor, "
        "text: accountType, texts: permissions",
        commissionRates=_RATES,
        balances=rows(fields("text: asset, decimal: free locked")),
    ),
    "GET /api/v3/account/commission": fields(
        "text: symbol",
        standardCommission=_RATES,
        specialCommission=_RATES,
        taxCommission=_RATES,
        discount=ref("Discount"),
    ),
    "GET /api/v3/rateLimit/order": rows(ref("OrderCount")),
    "GET /api/v3/myFilters": fields(
        "",
        exchangeFilters=rows(ref("Filter")),
        symbolFilters=rows(ref("Filter")),
        assetFilters=rows(ref("Filter")),
    ),
    "GET /sapi/v1/system/status": fields("integer: status, text: msg"),
    "GET /sapi/v1/account/apiRestrictions": fields(
        "integer: createTime, boolean: ipRestrict enableReading enableSpotAndMarginTrading "
        "enableWithdrawals enableInternalTransfer enableMargin enableFutures "
        "permitsUniversalTransfer enableVanillaOptions enableFixApiTrade enableFixReadOnly "
        "enablePortfolioMarginTrading"
    ),
    "GET /sapi/v1/asset/tradeFee": rows(
        fields("text: symbol, decimal: makerCommission takerCommission")
    ),
    "GET /sapi/v1/capital/config/getall": rows(ref("Coin")),
    "GET /sapi/v1/margin/allPairs": _EMPTY_LIST,
    "GET /sapi/v1/margin/isolated/allPairs": _EMPTY_LIST,
    "GET /sapi/v1/account/status": fields("", data=TEXT),
    "GET /sapi/v1/account/apiTradingStatus": fields(
        "",
        data=fields(
            "boolean: isLocked, integer: plannedRecoverTime updateTime",
            triggerCondition=fields("integer: GCR IFER UFR"),
        ),
    ),
}
