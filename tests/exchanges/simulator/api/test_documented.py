"""Compare with the documented tables: the weight of every call and the fields of every answer."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.client import ControlClient
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.server.wsclient import WsClient, run

ONE = {"symbol": "BTCUSDT"}
TEN = {"symbols": '["BTCUSDT","ETHUSDT"]'}
ORDER = {
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
    **ONE,
}

WEIGHTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "ping", {}, 1),
    ("GET", "time", {}, 1),
    ("GET", "exchangeInfo", {}, 20),
    ("GET", "exchangeInfo", ONE, 20),
    *[("GET", "depth", {**ONE, "limit": limit}, weight)
      for limit, weight in [(1, 5), (100, 5), (101, 25), (500, 25), (501, 50), (1000, 50),
                            (1001, 250), (5000, 250)]],
    ("GET", "depth", ONE, 5),
    ("GET", "trades", ONE, 25),
    ("GET", "historicalTrades", ONE, 25),
    ("GET", "aggTrades", ONE, 4),
    ("GET", "klines", {**ONE, "interval": "1m"}, 2),
    ("GET", "uiKlines", {**ONE, "interval": "1m"}, 2),
    ("GET", "avgPrice", ONE, 2),
    ("GET", "ticker/24hr", ONE, 2),
    ("GET", "ticker/24hr", TEN, 2),
    ("GET", "ticker/24hr", {}, 80),
    ("GET", "ticker/tradingDay", ONE, 4),
    ("GET", "ticker/tradingDay", TEN, 8),
    ("GET", "ticker", ONE, 4),
    ("GET", "ticker", TEN, 8),
    ("GET", "ticker/price", ONE, 2),
    ("GET", "ticker/price", TEN, 4),
    ("GET", "ticker/price", {}, 4),
    ("GET", "ticker/bookTicker", ONE, 2),
    ("GET", "ticker/bookTicker", {}, 4),
    ("POST", "order", ORDER, 0),
    ("POST", "order", {**ORDER, "quantity": "1000"}, 1),
    ("POST", "order/test", ORDER, 1),
    ("POST", "order/test", {**ORDER, "computeCommissionRates": "true"}, 20),
    ("GET", "order", {**ONE, "orderId": 1}, 4),
    ("DELETE", "order", {**ONE, "orderId": 999}, 1),
    ("PUT", "order/amend/keepPriority", {**ONE, "orderId": 999, "newQty": "1"}, 4),
    ("GET", "order/amendments", {**ONE, "orderId": 999}, 4),
    ("DELETE", "openOrders", ONE, 1),
    ("GET", "openOrders", ONE, 6),
    ("GET", "openOrders", {}, 80),
    ("GET", "allOrders", ONE, 20),
    ("GET", "account", {}, 20),
    ("GET", "account/commission", ONE, 20),
    ("GET", "myTrades", ONE, 20),
    ("GET", "myTrades", {**ONE, "orderId": 1}, 5),
    ("GET", "rateLimit/order", {}, 40),
    ("GET", "myPreventedMatches", {**ONE, "preventedMatchId": 1}, 2),
    ("GET", "myPreventedMatches", {**ONE, "orderId": 1}, 20),
    ("GET", "myAllocations", ONE, 20),
    ("GET", "myFilters", ONE, 40),
]  # fmt: skip
PUBLIC = (
    "ping",
    "time",
    "exchangeInfo",
    "depth",
    "trades",
    "historicalTrades",
    "aggTrades",
    "avgPrice",
)


def ask(client: RawClient, method: str, path: str, params: dict[str, Any]) -> Any:
    if path in PUBLIC or path.startswith(("ticker", "klines", "uiKlines")):
        return client.public(path, params)
    return client.signed(method, path, params)


@pytest.mark.parametrize(("method", "path", "params", "weight"), WEIGHTS)
def test_weight__as_documented(
    client: RawClient,
    sim: ThreadedSimulator,
    method: str,
    path: str,
    params: dict[str, Any],
    weight: int,
) -> None:
    response = ask(client, method, path, params)  # the first connection since this test's reset
    used = int(response.headers["X-MBX-USED-WEIGHT-1M"])
    # Unless a minute began in between, the header shows only this request's weight.
    assert used == weight, response.text


WS_WEIGHTS: list[tuple[str, dict[str, Any], int]] = [
    ("ping", {}, 1), ("depth", {**ONE, "limit": 500}, 25), ("ticker.24hr", {}, 80),
    ("session.status", {}, 2), ("session.subscriptions", {}, 2),
    ("userDataStream.unsubscribe", {}, 2),
]  # fmt: skip
SIGNED_WS_WEIGHTS: list[tuple[str, dict[str, Any], int]] = [
    ("order.place", ORDER, 0), ("order.test", ORDER, 1), ("order.status", {**ONE, "orderId": 1}, 4),
    ("openOrders.status", ONE, 6), ("account.status", {}, 20),
    ("account.rateLimits.orders", {}, 40), ("userDataStream.subscribe.signature", {}, 2),
]  # fmt: skip


def test_weight__of_the_websocket_api(sim: ThreadedSimulator) -> None:
    async def scenario(client: WsClient) -> None:
        used = 2  # the connection itself
        for signed, rows in ((False, WS_WEIGHTS), (True, SIGNED_WS_WEIGHTS)):
            for method, params, weight in rows:
                answer = await (
                    client.signed(method, **params) if signed else client.ask(method, params)
                )
                count = answer["rateLimits"][-1]["count"]
                # The second value is right when a minute began in between.
                assert weight in (count - used, count), answer
                used = count

    run(sim, scenario)


# ------------------------------------------------------------------------------------------- fields

ACK = {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
PROGRESS = {
    "price", "origQty", "executedQty", "origQuoteOrderQty", "cummulativeQuoteQty", "status",
    "timeInForce", "type", "side", "selfTradePreventionMode",
}  # fmt: skip
RESULT = ACK | PROGRESS | {"workingTime"}
CANCEL = ACK | PROGRESS | {"origClientOrderId"}
QUERY = (
    ACK | PROGRESS | {"stopPrice", "icebergQty", "time", "updateTime", "isWorking", "workingTime"}
) - {"transactTime"}
STOP = {"type": "STOP_LOSS_LIMIT", "side": "SELL", "price": "39000"}
DUE: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"type": "LIMIT_MAKER", "timeInForce": None}, set()),
    ({"icebergQty": "0.001"}, {"icebergQty"}),
    ({"strategyId": 7}, {"strategyId"}),
    ({"strategyId": 7, "strategyType": 1_000_000}, {"strategyId", "strategyType"}),
    ({**STOP, "stopPrice": "40000"}, {"stopPrice"}),
    ({**STOP, "trailingDelta": 100}, {"stopPrice", "trailingDelta", "trailingTime"}),
    ({"timeInForce": "IOC"}, {"expiryReason"}),
    ({"timeInForce": "FOK"}, {"expiryReason"}),
]


@pytest.mark.parametrize(("changes", "due"), DUE)
def test_order_fields__conditional_ones_only_when_due(
    client: RawClient, changes: dict[str, Any], due: set[str]
) -> None:
    assert set(client.place(**changes, newOrderRespType="ACK").json()) == ACK
    assert set(client.place(**changes, newOrderRespType="RESULT").json()) == RESULT | due
    placed = client.place(**changes, newOrderRespType="FULL").json()
    assert set(placed) == RESULT | due | {"fills"}
    by_id = {**ONE, "orderId": placed["orderId"]}
    assert set(client.signed("GET", "order", by_id).json()) == QUERY | due
    assert all(set(row) == QUERY | due for row in client.signed("GET", "allOrders", ONE).json())
    if placed["status"] == "NEW":
        assert set(client.signed("DELETE", "order", by_id).json()) == CANCEL | due
        assert all(
            set(row) == CANCEL | due for row in client.signed("DELETE", "openOrders", ONE).json()
        )


FILL = {"price", "qty", "commission", "commissionAsset", "tradeId"}
TRADE = {
    "symbol", "id", "orderId", "orderListId", "price", "qty", "quoteQty", "commission",
    "commissionAsset", "time", "isBuyer", "isMaker", "isBestMatch",
}  # fmt: skip
ACCOUNT = {
    "makerCommission", "takerCommission", "buyerCommission", "sellerCommission", "commissionRates",
    "canTrade", "canWithdraw", "canDeposit", "brokered", "requireSelfTradePrevention", "preventSor",
    "updateTime", "accountType", "balances", "permissions", "uid",
}  # fmt: skip
MINI = {
    "symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume",
    "openTime", "closeTime", "firstId", "lastId", "count",
}  # fmt: skip
WINDOW = MINI | {"priceChange", "priceChangePercent", "weightedAvgPrice"}
BEST = {"bidPrice", "bidQty", "askPrice", "askQty"}


def test_account_fields__are_the_documented_ones(client: RawClient, control: ControlClient) -> None:
    client.place(newClientOrderId="mine")
    control.fill("BTCUSDT", client_order_id="mine")
    assert set(client.signed("GET", "myTrades", ONE).json()[0]) == TRADE
    account = client.signed("GET", "account").json()
    assert set(account) == ACCOUNT
    assert set(account["commissionRates"]) == {"maker", "taker", "buyer", "seller"}
    assert set(account["balances"][0]) == {"asset", "free", "locked"}
    commission = client.signed("GET", "account/commission", ONE).json()
    assert set(commission) == {
        "symbol",
        "standardCommission",
        "specialCommission",
        "taxCommission",
        "discount",
    }
    assert set(commission["discount"]) == {
        "enabledForAccount",
        "enabledForSymbol",
        "discountAsset",
        "discount",
    }
    rates = client.signed("GET", "rateLimit/order").json()
    assert set(rates[0]) == {"rateLimitType", "interval", "intervalNum", "limit", "count"}


def test_fills_fields__are_the_documented_ones(client: RawClient, control: ControlClient) -> None:
    control.unfreeze()
    answer = client.place(type="MARKET", price=None, timeInForce=None).json()
    assert set(answer) == RESULT | {"fills"}
    assert set(answer["fills"][0]) == FILL


@pytest.mark.parametrize(
    ("path", "params", "fields"),
    [
        ("time", {}, {"serverTime"}),
        ("depth", ONE, {"lastUpdateId", "bids", "asks"}),
        ("trades", ONE, {"id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"}),
        ("aggTrades", ONE, {"a", "p", "q", "f", "l", "T", "m", "M"}),
        ("avgPrice", ONE, {"mins", "price", "closeTime"}),
        ("ticker/24hr", ONE, WINDOW | BEST | {"prevClosePrice", "lastQty"}),
        ("ticker/24hr", {**ONE, "type": "MINI"}, MINI),
        ("ticker", ONE, WINDOW),
        ("ticker", {**ONE, "type": "MINI"}, MINI),
        ("ticker/tradingDay", TEN, WINDOW),
        ("ticker/tradingDay", {**ONE, "type": "MINI"}, MINI),
        ("ticker/price", ONE, {"symbol", "price"}),
        ("ticker/bookTicker", TEN, {"symbol"} | BEST),
        (
            "exchangeInfo",
            ONE,
            {"timezone", "serverTime", "rateLimits", "exchangeFilters", "symbols"},
        ),
    ],
)
def test_market_fields__are_the_documented_ones(
    client: RawClient, path: str, params: dict[str, Any], fields: set[str]
) -> None:
    answer = client.public(path, params).json()
    assert set(answer[0] if isinstance(answer, list) else answer) == fields
