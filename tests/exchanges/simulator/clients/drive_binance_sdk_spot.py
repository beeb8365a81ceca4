# mypy: ignore-errors
"""Drive the official `binance-sdk-spot`: REST, WebSocket API, user stream through a reconnect."""

from __future__ import annotations

import asyncio
from typing import Any

from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketAPI
from binance_common.errors import (
    BadRequestError,
    ForbiddenError,
    NetworkError,
    NotFoundError,
    RateLimitBanError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
)
from binance_sdk_spot.spot import Spot
from support import CONFIG, Complaints, control, fault, raises, truth_accepted

COMPLAINTS = Complaints("did not match", "Failed to parse", "Error in callback")
SYMBOL = "BTCUSDT"
ORDER = {
    "symbol": SYMBOL,
    "side": "BUY",
    "type": "LIMIT",
    "time_in_force": "GTC",
    "quantity": 0.01,
    "price": 50000,
}


def rest(**changes: Any) -> Any:
    options = {
        "api_key": CONFIG["key"],
        "api_secret": CONFIG["secret"],
        "base_path": CONFIG["rest_url"],
    }
    options |= {"timeout": 5000, "retries": 0, "backoff": 1} | changes
    return Spot(config_rest_api=ConfigurationRestAPI(**options)).rest_api


def check_public(api: Any) -> None:
    api.ping()
    assert api.time().data().server_time > 0
    info = api.exchange_info(symbols=[SYMBOL, "ETHUSDT"]).data()
    assert [row.symbol for row in info.symbols] == [SYMBOL, "ETHUSDT"]
    assert api.depth(SYMBOL, limit=5).data().last_update_id >= 0
    api.get_trades(SYMBOL)
    api.historical_trades(SYMBOL)
    api.agg_trades(SYMBOL)
    api.klines(SYMBOL, "1m")
    api.ui_klines(SYMBOL, "1d")
    api.avg_price(SYMBOL)
    for call in (api.ticker24hr, api.ticker_price, api.ticker_book_ticker):
        call(symbol=SYMBOL)
        call()
        call(symbols=[SYMBOL, "ETHUSDT"])
    api.ticker(symbol=SYMBOL, window_size="1h")
    api.ticker_trading_day(symbol=SYMBOL)


def check_orders(api: Any) -> None:
    api.order_test(**ORDER)
    placed = api.new_order(**ORDER, new_client_order_id="sdk-1").data()
    assert (placed.status, placed.client_order_id) == ("NEW", "sdk-1")
    assert api.get_order(SYMBOL, orig_client_order_id="sdk-1").data().order_id == placed.order_id
    assert len(api.get_open_orders(symbol=SYMBOL).data()) == 1
    control("POST", "fill", {"symbol": SYMBOL, "client_order_id": "sdk-1", "quantity": "0.004"})
    assert api.get_order(SYMBOL, order_id=placed.order_id).data().status == "PARTIALLY_FILLED"
    canceled = api.delete_order(SYMBOL, orig_client_order_id="sdk-1").data()
    assert (canceled.status, canceled.executed_qty) == ("CANCELED", "0.00400000")
    api.new_order(**ORDER)
    assert len(api.delete_open_orders(SYMBOL).data()) == 1
    assert len(api.all_orders(SYMBOL).data()) == 2
    trades = api.my_trades(SYMBOL).data()
    assert (len(trades), trades[0].is_maker) == (1, True)
    balances = {row.asset: row for row in api.get_account(omit_zero_balances=True).data().balances}
    assert float(balances["BTC"].free) > 0
    api.account_commission(SYMBOL)
    api.rate_limit_order()
    api.my_prevented_matches(SYMBOL, order_id=placed.order_id)
    api.my_filters(SYMBOL)


def check_errors(api: Any) -> None:
    bad = raises(BadRequestError, lambda: api.new_order(**{**ORDER, "quantity": 0.010001}))
    assert (bad.status_code, bad.error_message) == (-1013, "Filter failure: LOT_SIZE")
    assert raises(BadRequestError, lambda: api.get_order(SYMBOL, order_id=999)).status_code == -2013
    stranger = rest(api_key="stranger")
    assert raises(UnauthorizedError, stranger.get_account).status_code == -2015
    assert raises(BadRequestError, rest(api_secret="guess").get_account).status_code == -1022
    raises(NotFoundError, lambda: api.get_order_list(order_list_id=1))
    fault("respond", status=403, body="<html>blocked</html>")
    raises(ForbiddenError, api.get_account)
    fault("rate_limited", retry_after=3)
    assert 3 <= float(raises(TooManyRequestsError, api.get_account).retry_after) <= 4
    fault("banned", retry_after=120)
    raises(RateLimitBanError, api.get_account)
    fault("timeout", match={"method": "POST"})
    raises(ServerError, lambda: api.new_order(**ORDER, new_client_order_id="sdk-504"))
    fault("reset_after", match={"method": "POST"})
    raises(NetworkError, lambda: api.new_order(**ORDER, new_client_order_id="sdk-reset"))
    assert (truth_accepted("sdk-504"), truth_accepted("sdk-reset")) == (1, 1)


def check_keys() -> None:
    for kind in ("ed25519", "rsa"):
        api = rest(api_key=f"{kind}-key", api_secret=None, private_key=CONFIG[f"{kind}_file"])
        assert api.get_account().data().can_trade is True
    micro = rest(time_unit="MICROSECOND")
    assert micro.time().data().server_time > 10**15


async def check_websocket() -> None:
    options = ConfigurationWebSocketAPI(
        api_key=CONFIG["key"],
        api_secret=CONFIG["secret"],
        stream_url=CONFIG["ws_url"],
        reconnect_delay=100,
    )
    client = Spot(config_ws_api=options)
    connection = await client.websocket_api.create_connection()
    assert (await connection.time()).data().result.server_time > 0
    info = (await connection.exchange_info(symbols=[SYMBOL])).data()
    assert (
        len(info.additional_properties["result"]["symbols"]) == 1
    )  # its model doesn't know the frame around it
    subscribed = await connection.user_data_stream_subscribe_signature()
    events: list[Any] = []
    subscribed.stream.on("message", events.append)
    placed = await connection.order_place(**ORDER, new_client_order_id="sdk-ws")
    assert placed.data().result.status == "NEW"
    assert placed.rate_limits
    assert (
        await connection.order_status(SYMBOL, orig_client_order_id="sdk-ws")
    ).data().result.status == "NEW"
    assert (await connection.open_orders_status(symbol=SYMBOL)).data().result
    await connection.all_orders(SYMBOL)
    await connection.my_trades(SYMBOL)
    await connection.account_status()
    assert (
        await connection.order_cancel(SYMBOL, orig_client_order_id="sdk-ws")
    ).data().result.status == "CANCELED"
    refused = (await connection.order_cancel(SYMBOL, orig_client_order_id="sdk-ws")).data()
    assert refused["error"]["code"] == -2011, refused
    control("POST", "deposit", {"account": "main", "asset": "USDT", "amount": "1"})
    await settle(lambda: len(events) >= 5)
    kinds = [type(event.actual_instance).__name__ for event in events]
    assert {"ExecutionReport", "OutboundAccountPosition", "BalanceUpdate"} <= set(kinds), kinds
    await connection.user_data_stream_unsubscribe()
    await connection.close_connection(close_session=True)


async def check_session() -> None:
    """Log on once with Ed25519, subscribe in the session, and do both again after a reconnect."""
    options = ConfigurationWebSocketAPI(
        api_key="ed25519-key",
        private_key=CONFIG["ed25519_file"],
        stream_url=CONFIG["ws_url"],
        reconnect_delay=100,
    )
    for number in range(2):
        connection = await Spot(config_ws_api=options).websocket_api.create_connection()
        await connection.session_logon()
        assert (await connection.session_status()).data().result.api_key == "ed25519-key"
        subscribed = await connection.user_data_stream_subscribe()
        events: list[Any] = []
        subscribed.stream.on("message", events.append)
        await connection.order_place(**ORDER, new_client_order_id=f"sdk-session-{number}")
        await settle(lambda: len(events) >= 2)  # noqa: B023 - awaited within the loop
        if number == 0:
            control("POST", "streams/disconnect", {"reset": True})
            await settle(lambda: not connection.connections)  # noqa: B023 - awaited within the loop
        else:
            await connection.session_logout()
        await connection.close_connection(close_session=True)


async def settle(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


if __name__ == "__main__":
    api = rest()
    check_public(api)
    check_orders(api)
    check_errors(api)
    check_keys()
    asyncio.run(check_websocket())
    asyncio.run(check_session())
    COMPLAINTS.check()
    print("ok")
