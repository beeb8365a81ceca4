# mypy: ignore-errors
"""Call every method of `python-binance` that the simulator supports.

The calls are synchronous, asynchronous, and by socket.
"""

from __future__ import annotations

import asyncio
from typing import Any

from binance import AsyncClient, Client
from support import CONFIG, Sweep, control

SYMBOL = "BTCUSDT"
ONE = {"symbol": SYMBOL}
LIMIT = {**ONE, "quantity": "0.01", "price": "30000"}
FULL = {**LIMIT, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
MARKET = {**ONE, "quantity": "0.001"}
MINUTES = {**ONE, "interval": "1m"}

for client_class in (Client, AsyncClient):
    client_class.API_URL = CONFIG["rest_url"] + "/api"
    client_class.MARGIN_API_URL = CONFIG["rest_url"] + "/sapi"
    client_class.WS_API_URL = CONFIG["ws_url"]


def orders(prefix: str, cancel_all: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{prefix}create_test_order", FULL),
        (f"{prefix}create_order", {**FULL, "newClientOrderId": "one"}),
        (f"{prefix}order_limit", {**LIMIT, "side": "BUY"}),
        (f"{prefix}order_limit_buy", LIMIT),
        (f"{prefix}order_limit_sell", {**LIMIT, "price": "90000"}),
        (f"{prefix}order_market", {**MARKET, "side": "BUY"}),
        (f"{prefix}order_market_buy", MARKET),
        (f"{prefix}order_market_sell", MARKET),
        (f"{prefix}get_order", {**ONE, "origClientOrderId": "one"}),
        (f"{prefix}get_open_orders", {}),
        (f"{prefix}get_open_orders", ONE),
        (f"{prefix}cancel_order", {**ONE, "origClientOrderId": "one"}),
        (f"{prefix}{cancel_all}", ONE),
        (f"{prefix}get_account", {}),
        (f"{prefix}get_all_orders", ONE),
        (f"{prefix}get_my_trades", ONE),
        (f"{prefix}get_prevented_matches", {**ONE, "orderId": 1}),
        (f"{prefix}get_allocations", ONE),
    ]


def rest_calls() -> list[tuple[str, dict[str, Any]]]:
    plain = (
        "ping get_server_time get_exchange_info get_all_tickers get_orderbook_tickers get_ticker "
        "get_symbol_ticker "
        "get_current_order_count get_system_status get_account_status "
        "get_account_api_trading_status "
        "get_account_api_permissions get_trade_fee get_all_coins_info get_asset_balance"
    )
    by_symbol = (
        "get_symbol_info get_order_book get_recent_trades get_historical_trades "
        "get_aggregate_trades get_avg_price "
        "get_ticker get_symbol_ticker get_symbol_ticker_window get_orderbook_ticker get_trade_fee"
    )
    return [
        *((name, {}) for name in plain.split()),
        *((name, ONE) for name in by_symbol.split()),
        *((name, MINUTES) for name in ("get_klines", "get_ui_klines")),
        ("get_historical_klines", {**MINUTES, "start_str": "1 hour ago UTC"}),
        *orders("", "cancel_all_open_orders"),
    ]


def socket_calls() -> list[tuple[str, dict[str, Any]]]:
    by_symbol = (
        "ws_get_commission_rates ws_get_order_book ws_get_recent_trades ws_get_historical_trades "
        "ws_get_avg_price "
        "ws_get_aggregate_trades ws_get_ticker ws_get_trading_day_ticker "
        "ws_get_symbol_ticker_window "
        "ws_get_symbol_ticker ws_get_orderbook_ticker ws_get_exchange_info"
    )
    return [
        *orders("ws_", "cancel_all_open_orders"),
        *((name, ONE) for name in by_symbol.split()),
        *((name, MINUTES) for name in ("ws_get_klines", "ws_get_uiKlines")),
        *((name, {}) for name in ("ws_ping", "ws_get_time", "ws_get_account_rate_limits_orders")),
    ]


def sweep() -> None:
    call = Sweep(Client(CONFIG["key"], CONFIG["secret"]))
    # The synchronous client has only some methods of the WebSocket API.
    for name, keys in [*rest_calls(), *(row for row in socket_calls() if hasattr(Client, row[0]))]:
        call(name, **keys)
    call.check()
    for kind in ("ed25519", "rsa"):
        assert (
            Client(f"{kind}-key", private_key=CONFIG[f"{kind}_pem"]).get_account()["canTrade"]
            is True
        )


async def sweep_async() -> None:
    api = await AsyncClient.create(CONFIG["key"], CONFIG["secret"])
    call = Sweep(api)
    for name, keys in [*rest_calls(), *socket_calls()]:
        await call.wait(name, **keys)
    await api.close_connection()
    call.check()


if __name__ == "__main__":
    control("POST", "market", {"frozen": False})
    sweep()
    asyncio.run(sweep_async())
    print("ok")
