# mypy: ignore-errors
"""Drive the community's `python-binance`.

Synchronous REST, the WebSocket API, and the user socket through a reconnect.
"""

from __future__ import annotations

import asyncio
from typing import Any

from binance import AsyncClient, BinanceSocketManager, Client
from binance.exceptions import BinanceAPIException, BinanceRequestException
from requests.exceptions import ConnectionError as RequestsConnectionError
from support import CONFIG, control, fault, raises, truth_accepted

SYMBOL = "BTCUSDT"
ORDER = {
    "symbol": SYMBOL,
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
}

for kind in (Client, AsyncClient):
    kind.API_URL = CONFIG["rest_url"] + "/api"
    kind.MARGIN_API_URL = CONFIG["rest_url"] + "/sapi"
    kind.WS_API_URL = CONFIG["ws_url"]


def client(key: str = "", secret: str = "") -> Any:
    return Client(key or CONFIG["key"], secret or CONFIG["secret"])


def check_rest(api: Any) -> None:
    assert api.get_server_time()["serverTime"]
    assert api.get_symbol_info(SYMBOL)["baseAsset"] == "BTC"
    api.get_exchange_info()
    api.get_order_book(symbol=SYMBOL)
    api.get_recent_trades(symbol=SYMBOL)
    api.get_historical_trades(symbol=SYMBOL)
    api.get_aggregate_trades(symbol=SYMBOL)
    api.get_klines(symbol=SYMBOL, interval="1m")
    api.get_avg_price(symbol=SYMBOL)
    api.get_ticker(symbol=SYMBOL)
    api.get_symbol_ticker(symbol=SYMBOL)
    api.get_all_tickers()
    api.get_orderbook_tickers()
    api.create_test_order(**ORDER)
    placed = api.create_order(**ORDER, newClientOrderId="pb-1")
    assert placed["status"] == "NEW"
    assert api.get_order(symbol=SYMBOL, origClientOrderId="pb-1")["orderId"] == placed["orderId"]
    assert len(api.get_open_orders(symbol=SYMBOL)) == 1
    control("POST", "fill", {"symbol": SYMBOL, "client_order_id": "pb-1", "quantity": "0.004"})
    assert api.cancel_order(symbol=SYMBOL, origClientOrderId="pb-1")["executedQty"] == "0.00400000"
    assert (
        api.order_limit_buy(symbol=SYMBOL, quantity=0.01, price="49000")["price"]
        == "49000.00000000"
    )
    assert api.order_limit_sell(symbol=SYMBOL, quantity=0.01, price="70000")["side"] == "SELL"
    assert len(api.get_all_orders(symbol=SYMBOL)) == 3
    assert len(api.get_my_trades(symbol=SYMBOL)) == 1
    assert api.get_asset_balance(asset="BTC")["free"]
    assert api.get_account_api_permissions()["enableReading"] is True
    assert api.get_trade_fee(symbol=SYMBOL)[0]["symbol"] == SYMBOL
    assert api.get_account_status()["data"] == "Normal"


def check_errors(api: Any) -> None:
    error = raises(
        BinanceAPIException, lambda: api.create_order(**{**ORDER, "quantity": "0.0000001"})
    )
    assert (error.status_code, error.code, error.message) == (
        400,
        -1013,
        "Filter failure: LOT_SIZE",
    )
    assert raises(BinanceAPIException, client("stranger").get_account).code == -2015
    assert raises(BinanceAPIException, client(secret="guess").get_account).code == -1022
    assert (
        raises(BinanceAPIException, lambda: api.get_order(symbol=SYMBOL, orderId=999)).code == -2013
    )
    fault("garbage", kind="html")
    raises(BinanceRequestException, api.get_account)
    fault("rate_limited")
    assert raises(BinanceAPIException, api.get_account).status_code == 429
    fault("reset_after", match={"method": "POST"})
    raises(RequestsConnectionError, lambda: api.create_order(**ORDER, newClientOrderId="pb-reset"))
    assert truth_accepted("pb-reset") == 1


async def reconnected(first: list[int]) -> None:
    for _ in range(200):
        if [row["connected_ms"] for row in control("GET", "streams")] not in ([], first):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("waited in vain")


async def check_stream() -> None:
    api = await AsyncClient.create(CONFIG["key"], CONFIG["secret"])
    manager = BinanceSocketManager(api)
    for number in range(2):
        async with manager.user_socket() as socket:
            placed = await api.ws_create_order(**ORDER, newClientOrderId=f"pb-ws-{number}")
            assert placed["status"] == "NEW"
            seen = [await asyncio.wait_for(socket.recv(), 10) for _ in range(2)]
            assert {event["e"] for event in seen} == {"executionReport", "outboundAccountPosition"}
            canceled = await api.ws_cancel_order(symbol=SYMBOL, origClientOrderId=f"pb-ws-{number}")
            assert canceled["status"] == "CANCELED"
        if number == 0:
            first = [row["connected_ms"] for row in control("GET", "streams")]
            control("POST", "streams/disconnect", {})
            # It connects again by itself, but its user has to subscribe again.
            await reconnected(first)
    error = None
    try:
        await api.ws_get_order(symbol=SYMBOL, origClientOrderId="nobody")
    except BinanceAPIException as caught:
        error = caught
    assert error is not None
    assert error.code == -2013
    assert (await api.ws_get_account())["canTrade"] is True
    await api.close_connection()


if __name__ == "__main__":
    api = client()
    check_rest(api)
    check_errors(api)
    asyncio.run(check_stream())
    print("ok")
