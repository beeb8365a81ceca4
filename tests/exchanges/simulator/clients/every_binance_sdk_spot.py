# mypy: ignore-errors
"""Call every method of `binance-sdk-spot` that the simulator supports.

Each call also runs with its optional parameters.
"""

from __future__ import annotations

import asyncio
from typing import Any

from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketAPI
from binance_common.constants import TimeUnit
from binance_sdk_spot.spot import Spot
from support import CONFIG, Complaints, Sweep, control

COMPLAINTS = Complaints("did not match", "Failed to parse", "Error")
SYMBOL = "BTCUSDT"
BOTH = [SYMBOL, "ETHUSDT"]
LIMIT = {
    "symbol": SYMBOL,
    "side": "BUY",
    "type": "LIMIT",
    "time_in_force": "GTC",
    "quantity": 0.01,
    "price": 30000,
}
STOP = {"symbol": SYMBOL, "side": "SELL", "quantity": 0.01, "stop_price": 30000}
INTERVALS = [
    "1s",
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
]
PLACEMENTS = (
    *(
        {**LIMIT, "new_order_resp_type": kind, "recv_window": 5000.123}
        for kind in ("ACK", "RESULT", "FULL")
    ),
    {**LIMIT, "time_in_force": "IOC"},
    {**LIMIT, "time_in_force": "FOK"},
    {
        **LIMIT,
        "iceberg_qty": 0.001,
        "self_trade_prevention_mode": "EXPIRE_BOTH",
        "new_client_order_id": "iceberg",
    },
    {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT_MAKER", "quantity": 0.01, "price": 30000},
    {"symbol": SYMBOL, "side": "BUY", "type": "MARKET", "quantity": 0.001},
    {"symbol": SYMBOL, "side": "BUY", "type": "MARKET", "quote_order_qty": 100.5},
    {**STOP, "type": "STOP_LOSS"},
    {**STOP, "type": "STOP_LOSS_LIMIT", "time_in_force": "GTC", "price": 29000, "strategy_id": 1},
    {
        **STOP,
        "type": "TAKE_PROFIT",
        "stop_price": 90000,
        "strategy_id": 1,
        "strategy_type": 1_000_000,
    },
    {
        **STOP,
        "type": "TAKE_PROFIT_LIMIT",
        "time_in_force": "GTC",
        "price": 90000,
        "stop_price": None,
        "trailing_delta": 100,
        "new_order_resp_type": "FULL",
    },
)
TRADE_QUERIES: tuple[dict[str, int], ...] = (
    {},
    {"order_id": 1},
    {"from_id": 1},
    {"start_time": 1},
    {"end_time": 2},
    {"start_time": 1, "end_time": 3},
    {"order_id": 1, "from_id": 1},
    {"limit": 3},
)


def set_values(order: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in order.items() if value is not None}


def sweep_market(call: Sweep) -> None:
    for name in ("ping", "time"):
        call(name)
    for keys in (
        {},
        {"symbol": SYMBOL},
        {"symbols": BOTH},
        {"permissions": ["SPOT"]},
        {"show_permission_sets": False},
    ):
        call("exchange_info", **keys)
    call("exchange_info", symbol_status="TRADING")
    call("depth", SYMBOL, limit=10, symbol_status="TRADING")
    call("get_trades", SYMBOL, limit=5)
    call("historical_trades", SYMBOL, limit=5, from_id=1)
    call("agg_trades", SYMBOL, from_id=1, limit=3)
    call("agg_trades", SYMBOL, start_time=1, end_time=2)
    for name in ("klines", "ui_klines"):
        for interval in INTERVALS:
            call(name, SYMBOL, interval, limit=2)
        call(name, SYMBOL, "1d", start_time=1, end_time=2, time_zone="-1:00")
    call("avg_price", SYMBOL)
    for name in ("ticker24hr", "ticker", "ticker_trading_day"):
        for keys in ({"symbol": SYMBOL}, {"symbols": BOTH}, {"symbol": SYMBOL, "type": "MINI"}):
            call(name, **keys)
            call(name, **keys, symbol_status="TRADING")
    call("ticker24hr")
    call("ticker", symbol=SYMBOL, window_size="7d")
    call("ticker_trading_day", symbol=SYMBOL, time_zone="5:45")
    for name in ("ticker_price", "ticker_book_ticker"):
        for keys in ({}, {"symbol": SYMBOL}, {"symbols": BOTH}, {"symbol_status": "TRADING"}):
            call(name, **keys)


def sweep_account(call: Sweep) -> None:
    for order in PLACEMENTS:
        call("new_order", **set_values(order))
    call("order_test", **LIMIT)
    call("order_test", **LIMIT, compute_commission_rates=True)
    call("get_order", SYMBOL, orig_client_order_id="iceberg", recv_window=60000)
    call("get_open_orders")
    call("get_open_orders", symbol=SYMBOL)
    call(
        "delete_order",
        SYMBOL,
        orig_client_order_id="iceberg",
        new_client_order_id="c",
        cancel_restrictions="ONLY_NEW",
    )
    call("delete_open_orders", SYMBOL)
    for keys in ({}, {"order_id": 1, "limit": 1}, {"start_time": 1, "end_time": 2}):
        call("all_orders", SYMBOL, **keys)
    for keys in TRADE_QUERIES:
        call("my_trades", SYMBOL, **keys)
    call("get_account")
    call("get_account", omit_zero_balances=True)
    call("account_commission", SYMBOL)
    call("rate_limit_order")
    call("my_filters", SYMBOL)
    call("my_prevented_matches", SYMBOL, prevented_match_id=1)
    call("my_prevented_matches", SYMBOL, order_id=1, from_prevented_match_id=1, limit=2)
    call("my_allocations", SYMBOL, start_time=1, end_time=2, from_allocation_id=1, limit=3)


def connections() -> dict[str, Any]:
    return {
        "hmac": {"api_key": CONFIG["key"], "api_secret": CONFIG["secret"]},
        "rsa": {"api_key": "rsa-key", "private_key": CONFIG["rsa_file"]},
        "ed25519": {
            "api_key": "ed25519-key",
            "private_key": CONFIG["ed25519_file"],
            "time_unit": TimeUnit.MICROSECOND,
        },
    }


async def sweep_socket_orders(call: Sweep) -> None:
    for order in PLACEMENTS:
        await call.wait("order_place", **set_values(order))
    await call.wait("order_test", **LIMIT, compute_commission_rates=True)
    await call.wait("order_status", SYMBOL, orig_client_order_id="iceberg")
    await call.wait(
        "order_cancel", SYMBOL, orig_client_order_id="iceberg", cancel_restrictions="ONLY_NEW"
    )
    await call.wait("open_orders_cancel_all", SYMBOL)
    await call.wait("all_orders", SYMBOL, start_time=1, end_time=2)
    for keys in TRADE_QUERIES:
        await call.wait("my_trades", SYMBOL, **keys)
    await call.wait("account_status", omit_zero_balances=True)
    await call.wait("account_rate_limits_orders")
    for name in ("account_commission", "my_allocations", "my_filters"):
        await call.wait(name, SYMBOL)
    await call.wait("my_prevented_matches", SYMBOL, order_id=1)


async def sweep_websocket(kind: str, options: dict[str, Any]) -> None:
    client = Spot(
        config_ws_api=ConfigurationWebSocketAPI(
            stream_url=CONFIG["ws_url"], reconnect_delay=100, **options
        )
    )
    connection = await client.websocket_api.create_connection()
    call = Sweep(connection)
    for name in (
        "ping",
        "time",
        "ticker_book",
        "ticker_price",
        "exchange_info",
        "open_orders_status",
    ):
        await call.wait(name)
    for keys in ({"symbol": SYMBOL}, {"symbols": BOTH}):
        for name in (
            "exchange_info",
            "ticker_book",
            "ticker_price",
            "ticker",
            "ticker24hr",
            "ticker_trading_day",
        ):
            await call.wait(name, **keys)
    for name in ("avg_price", "depth", "trades_aggregate", "trades_historical", "trades_recent"):
        await call.wait(name, SYMBOL)
    await call.wait("klines", SYMBOL, "1d", time_zone="8", limit=2)
    await call.wait("ui_klines", SYMBOL, "1M")
    if kind == "ed25519":
        await call.wait("session_logon")
        await call.wait("session_status")
        await call.wait("user_data_stream_subscribe")
    else:
        await call.wait("user_data_stream_subscribe_signature")
    await call.wait("session_subscriptions")
    await sweep_socket_orders(call)
    await call.wait("user_data_stream_unsubscribe", subscription_id=0)
    if kind == "ed25519":
        await call.wait("session_logout")
    await connection.close_connection(close_session=True)
    call.check()


if __name__ == "__main__":
    control("POST", "market", {"frozen": False})
    options = ConfigurationRestAPI(
        api_key=CONFIG["key"],
        api_secret=CONFIG["secret"],
        base_path=CONFIG["rest_url"],
        timeout=10_000,
        retries=0,
    )
    rest = Sweep(Spot(config_rest_api=options).rest_api)
    sweep_market(rest)
    sweep_account(rest)
    rest.check()
    for kind, changes in connections().items():
        asyncio.run(sweep_websocket(kind, changes))
    COMPLAINTS.check()
    print("ok")
