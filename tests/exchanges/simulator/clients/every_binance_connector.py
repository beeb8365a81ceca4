# mypy: ignore-errors
"""Call every method of `binance-connector` that the simulator supports."""

from __future__ import annotations

import json
from typing import Any

from binance.spot import Spot
from binance.websocket.spot.websocket_api import SpotWebsocketAPIClient
from support import CONFIG, Sweep, control, until

SYMBOL = "BTCUSDT"
ONE, BOTH = {"symbol": SYMBOL}, {"symbols": [SYMBOL, "ETHUSDT"]}
LIMIT = {
    **ONE,
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": 0.01,
    "price": 30000,
}
MAKER = {**ONE, "side": "SELL", "type": "LIMIT_MAKER", "quantity": 0.01, "price": 90000}


def sweep_rest(call: Sweep) -> None:
    for name in ("ping", "time", "exchange_info", "ticker_24hr", "ticker_price", "book_ticker"):
        call(name)
    for keys in (ONE, BOTH, {"permissions": ["SPOT", "MARGIN"]}):
        call("exchange_info", **keys)
    for name in ("depth", "trades", "historical_trades", "agg_trades"):
        call(name, SYMBOL, limit=3)
    call("klines", SYMBOL, "1d", timeZone="+8:00")
    call("ui_klines", SYMBOL, "1m", limit=2)
    call("avg_price", SYMBOL)
    for name in (
        "ticker_24hr",
        "trading_day_ticker",
        "ticker_price",
        "book_ticker",
        "rolling_window_ticker",
    ):
        call(name, **ONE)
        call(name, **BOTH)
    call("new_order_test", **LIMIT, computeCommissionRates="true")
    call("new_order", **LIMIT, newClientOrderId="one", recvWindow=5000)
    call("new_order", **MAKER, newOrderRespType="ACK")
    call("get_order", SYMBOL, origClientOrderId="one")
    call("get_open_orders")
    call("get_open_orders", SYMBOL)
    call("cancel_order", SYMBOL, origClientOrderId="one")
    call("cancel_open_orders", SYMBOL)
    for keys in ({}, {"orderId": 1, "limit": 3}, {"startTime": 1, "endTime": 2}):
        call("get_orders", SYMBOL, **keys)
        call(
            "my_trades", SYMBOL, **{name: value for name, value in keys.items() if name != "limit"}
        )
    call("account", omitZeroBalances="true")
    call("get_order_rate_limit")
    call("query_prevented_matches", SYMBOL, orderId=1)
    call("query_allocations", SYMBOL)
    call("query_commission_rates", SYMBOL)
    for name in (
        "system_status",
        "coin_info",
        "account_status",
        "api_trading_status",
        "api_key_permissions",
    ):
        call(name)
    call("trade_fee")
    call("trade_fee", **ONE)
    call.check()


def websocket_calls() -> list[tuple[str, dict[str, Any]]]:
    market = ("order_book", "recent_trades", "aggregate_trades", "avg_price")
    tickers = ("exchange_info", "ticker_24hr", "ticker", "ticker_price", "ticker_book")
    return [
        ("ping_connectivity", {}),
        ("server_time", {}),
        *((name, ONE) for name in market),
        *((name, keys) for name in tickers for keys in (ONE, {"symbols": [SYMBOL]})),
        ("exchange_info", {"permissions": ["SPOT"]}),
        ("historical_trades", {**ONE, "apiKey": CONFIG["key"]}),
        *((name, {**ONE, "interval": "1m"}) for name in ("klines", "ui_klines")),
        ("new_order_test", LIMIT),
        ("new_order", {**LIMIT, "newClientOrderId": "two", "id": "an id of mine"}),
        ("get_order", {**ONE, "origClientOrderId": "two"}),
        ("get_open_orders", {}),
        ("cancel_order", {**ONE, "origClientOrderId": "two"}),
        ("new_order", MAKER),
        ("cancel_open_orders", ONE),
        ("account", {}),
        ("order_rate_limit", {}),
        ("order_history", ONE),
        ("my_trades", ONE),
        ("prevented_matches", {**ONE, "orderId": 1}),
    ]


def sweep_websocket() -> None:
    answers: list[Any] = []
    socket = SpotWebsocketAPIClient(
        CONFIG["ws_url"],
        CONFIG["key"],
        CONFIG["secret"],
        on_message=lambda _, text: answers.append(json.loads(text)),
    )
    for number, (name, keys) in enumerate(websocket_calls(), start=1):
        getattr(socket, name)(**keys)
        until(lambda: len(answers) == number)  # noqa: B023 - waited for within the loop
        assert answers[-1]["status"] == 200, (name, keys, answers[-1])
    socket.stop()


if __name__ == "__main__":
    control("POST", "market", {"frozen": False})
    sweep_rest(Sweep(Spot(CONFIG["key"], CONFIG["secret"], base_url=CONFIG["rest_url"])))
    keyed = Spot(
        "ed25519-key",
        base_url=CONFIG["rest_url"],
        private_key=CONFIG["ed25519_pem"],
        time_unit="microsecond",
    )
    sweep_rest(Sweep(keyed))
    sweep_websocket()
    print("ok")
