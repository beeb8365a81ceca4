# mypy: ignore-errors
"""Drive `ccxt` and `ccxt.pro`: every unified call for spot, errors, streams, a reconnect."""

from __future__ import annotations

import asyncio
from typing import Any

import ccxt
from ccxt import pro
from support import CONFIG, Sweep, control, fault, raises, truth_accepted

SYMBOL = "BTC/USDT"
BUY = (SYMBOL, "limit", "buy", 0.01, 30000)
ALL_CALLS = (
    "load_markets fetch_currencies fetch_status fetch_time fetch_markets fetch_tickers "
    "fetch_bids_asks "
    "fetch_last_prices fetch_balance fetch_trading_fees"
)
SYMBOL_CALLS = (
    "fetch_order_book fetch_ticker fetch_trades fetch_trading_fee fetch_orders fetch_open_orders"
)
AFTERWARDS = "fetch_closed_orders fetch_canceled_orders fetch_my_trades fetch_orders"
SOCKET_CALLS = (
    "fetch_open_orders_ws fetch_orders_ws fetch_closed_orders_ws fetch_my_trades_ws "
    "cancel_all_orders_ws"
)


def options(**changes: Any) -> dict[str, Any]:
    base = CONFIG["rest_url"]
    api = {
        "public": f"{base}/api/v3",
        "private": f"{base}/api/v3",
        "v1": f"{base}/api/v1",
        "sapi": f"{base}/sapi/v1",
    }
    return {
        "apiKey": CONFIG["key"],
        "secret": CONFIG["secret"],
        "enableRateLimit": False,
        "urls": {
            "api": {**api, "ws": {"ws-api": {"spot": CONFIG["ws_url"]}, "spot": CONFIG["ws_url"]}}
        },
        "options": {
            "fetchMarkets": {"types": ["spot"]},
            "fetchOpenOrders": {"warnWithoutSymbol": False},
        },
    } | changes


def sweep(call: Sweep) -> None:
    for name in ALL_CALLS.split():
        call(name)
    for name in SYMBOL_CALLS.split():
        call(name, SYMBOL)
    call("fetch_ohlcv", SYMBOL, "1h", None, 10)
    call("create_order", *BUY, {"clientOrderId": "cx-1"})
    call("create_post_only_order", SYMBOL, "limit", "buy", 0.01, 30001)
    call("create_order", SYMBOL, "limit", "sell", 0.01, 29000, {"stopLossPrice": 29500})
    call("create_order", SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 29500})
    call("create_order", SYMBOL, "limit", "sell", 0.01, 90000, {"takeProfitPrice": 89500})
    call("create_order", *BUY, {"timeInForce": "IOC"})
    call("create_order", *BUY, {"test": True})
    call("create_order", SYMBOL, "market", "sell", 0.001)
    call("create_market_order_with_cost", SYMBOL, "buy", 100)
    placed = call("fetch_order", None, SYMBOL, {"clientOrderId": "cx-1"})
    call("fetch_order_trades", placed["id"], SYMBOL)
    call("cancel_order", placed["id"], SYMBOL)
    call("cancel_all_orders", SYMBOL)
    for name in AFTERWARDS.split():
        call(name, SYMBOL)
    call.check()


def check_errors(api: Any) -> None:
    raises(ccxt.InsufficientFunds, lambda: api.create_order(SYMBOL, "limit", "buy", 100, 30000))
    raises(ccxt.OrderNotFound, lambda: api.fetch_order("999999", SYMBOL))
    raises(
        ccxt.InvalidOrder, lambda: api.create_order(SYMBOL, "limit", "buy", 9500, 30000)
    )  # over maxQty
    raises(ccxt.AuthenticationError, ccxt.binance(options(apiKey="stranger")).fetch_balance)
    raises(ccxt.AuthenticationError, ccxt.binance(options(secret="guess")).fetch_balance)
    fault("rate_limited")
    raises(ccxt.DDoSProtection, api.fetch_balance)
    fault("respond", status=503, body="")
    raises(ccxt.ExchangeNotAvailable, api.fetch_balance)
    fault("timeout", match={"method": "POST"})
    raises(ccxt.RequestTimeout, lambda: api.create_order(*BUY, {"clientOrderId": "cx-504"}))
    fault("reset_after", match={"method": "POST"})
    raises(ccxt.NetworkError, lambda: api.create_order(*BUY, {"clientOrderId": "cx-reset"}))
    assert (truth_accepted("cx-504"), truth_accepted("cx-reset")) == (1, 1)


async def check_stream() -> None:
    api = pro.binance(options())
    await api.load_markets()
    for number in range(2):
        watching = asyncio.create_task(api.watch_orders())
        while not any(row["subscriptions"] for row in control("GET", "streams")):
            assert not watching.done(), watching.exception()
            await asyncio.sleep(0.02)
        placed = await api.create_order_ws(*BUY, {"newClientOrderId": f"cx-pro-{number}"})
        assert (await asyncio.wait_for(watching, 10))[-1]["clientOrderId"] == f"cx-pro-{number}"
        assert (await api.fetch_order_ws(placed["id"], SYMBOL))["status"] == "open"
        assert (await api.cancel_order_ws(placed["id"], SYMBOL))["status"] == "canceled"
        if number == 0:
            waiting = asyncio.create_task(api.watch_balance())
            await asyncio.sleep(0)
            await asyncio.to_thread(control, "POST", "streams/disconnect", {"reset": True})
            await asyncio.wait([waiting], timeout=10)
            assert isinstance(waiting.exception(), ccxt.NetworkError), waiting
            # The closed connection must not be taken for the next one.
            for _ in range(500):
                if not any(row["subscriptions"] for row in control("GET", "streams")):
                    break
                await asyncio.sleep(0.02)
    await api.create_order_ws(*BUY)
    call = Sweep(api)
    for name in SOCKET_CALLS.split():
        await call.wait(name, SYMBOL)
    await call.wait("fetch_balance_ws")
    await call.wait("fetch_ohlcv_ws", SYMBOL, "1m")
    await call.wait("fetch_trades_ws", SYMBOL)
    await api.close()
    call.check()


if __name__ == "__main__":
    control("POST", "market", {"frozen": False})
    api = ccxt.binance(options())
    sweep(Sweep(api))
    control("POST", "market", {"frozen": True})
    check_errors(api)
    asyncio.run(check_stream())
    print("ok")
