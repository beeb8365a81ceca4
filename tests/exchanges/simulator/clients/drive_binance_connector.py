# mypy: ignore-errors
"""Drive the older official `binance-connector`.

REST with three kinds of keys, and the WebSocket API with callbacks.
"""

from __future__ import annotations

import json
import time
from typing import Any

from binance.error import ClientError, ServerError
from binance.spot import Spot
from binance.websocket.spot.websocket_api import SpotWebsocketAPIClient
from requests.exceptions import ConnectionError as RequestsConnectionError
from support import CONFIG, control, fault, raises, truth_accepted, until

SYMBOL = "BTCUSDT"
ORDER = {
    "symbol": SYMBOL,
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": 0.01,
    "price": 50000,
}


def client(key: str = "", secret: str = "", **options: Any) -> Any:
    return Spot(
        key or CONFIG["key"], secret or CONFIG["secret"], base_url=CONFIG["rest_url"], **options
    )


def check_rest(api: Any) -> None:
    assert api.ping() == {}
    assert api.time()["serverTime"]
    assert len(api.exchange_info(symbols=[SYMBOL, "ETHUSDT"])["symbols"]) == 2
    api.depth(SYMBOL)
    api.trades(SYMBOL)
    api.historical_trades(SYMBOL)
    api.agg_trades(SYMBOL)
    api.klines(SYMBOL, "1h")
    api.ui_klines(SYMBOL, "1h")
    api.avg_price(SYMBOL)
    api.ticker_24hr(symbols=[SYMBOL, "ETHUSDT"])
    api.trading_day_ticker(SYMBOL)
    api.ticker_price()
    api.book_ticker(SYMBOL)
    api.rolling_window_ticker(SYMBOL, windowSize="2h")
    api.new_order_test(**ORDER)
    placed = api.new_order(**ORDER, newClientOrderId="bc-1")
    assert api.get_order(SYMBOL, orderId=placed["orderId"])["clientOrderId"] == "bc-1"
    assert len(api.get_open_orders(SYMBOL)) == 1
    control("POST", "fill", {"symbol": SYMBOL, "client_order_id": "bc-1", "quantity": "0.004"})
    assert api.cancel_order(SYMBOL, origClientOrderId="bc-1")["status"] == "CANCELED"
    api.new_order(**ORDER)
    assert len(api.cancel_open_orders(SYMBOL)) == 1
    assert len(api.get_orders(SYMBOL)) == 2
    assert len(api.my_trades(SYMBOL)) == 1
    assert api.account(omitZeroBalances="true")["balances"]
    api.get_order_rate_limit()
    api.query_prevented_matches(SYMBOL, orderId=1)
    api.query_commission_rates(SYMBOL)
    limited = client(show_limit_usage=True).time()
    assert "x-mbx-used-weight-1m" in limited["limit_usage"]


def check_keys() -> None:
    for kind in ("ed25519", "rsa"):
        api = Spot(f"{kind}-key", base_url=CONFIG["rest_url"], private_key=CONFIG[f"{kind}_pem"])
        assert api.account()["canTrade"] is True


def check_errors(api: Any) -> None:
    error = raises(ClientError, lambda: api.new_order(**{**ORDER, "quantity": 100}))
    assert (error.status_code, error.error_code) == (400, -2010)
    assert raises(ClientError, client("stranger").account).error_code == -2015
    assert raises(ClientError, lambda: api.new_listen_key()).status_code == 410
    fault("rate_limited", retry_after=2)
    error = raises(ClientError, api.account)
    assert (error.status_code, error.header["Retry-After"] in ("2", "3")) == (429, True)
    fault("timeout", match={"method": "POST"})
    raises(ServerError, lambda: api.new_order(**ORDER, newClientOrderId="bc-504"))
    fault("reset_after", match={"method": "POST"})
    raises(RequestsConnectionError, lambda: api.new_order(**ORDER, newClientOrderId="bc-reset"))
    assert (truth_accepted("bc-504"), truth_accepted("bc-reset")) == (1, 1)


def check_websocket() -> None:
    for number in range(2):
        answers: list[Any] = []
        socket = SpotWebsocketAPIClient(
            CONFIG["ws_url"],
            CONFIG["key"],
            CONFIG["secret"],
            on_message=lambda _client, text, into=answers: into.append(json.loads(text)),
        )
        calls = [
            lambda: socket.ping_connectivity(),  # noqa: B023 - called within the loop
            lambda: socket.new_order(**ORDER, newClientOrderId=f"bc-ws-{number}"),  # noqa: B023
            lambda: socket.get_order(SYMBOL, origClientOrderId=f"bc-ws-{number}"),  # noqa: B023
            lambda: socket.get_open_orders(),  # noqa: B023
            lambda: socket.account(),  # noqa: B023
            lambda: socket.my_trades(symbol=SYMBOL),  # noqa: B023
            lambda: socket.cancel_order(SYMBOL, origClientOrderId=f"bc-ws-{number}"),  # noqa: B023
        ]
        for index, call in enumerate(calls):
            call()
            until(lambda: len(answers) == index + 1)  # noqa: B023 - waited for within the loop
            assert answers[-1]["status"] == 200, answers[-1]
        socket.stop()
        time.sleep(0.05)


if __name__ == "__main__":
    api = client()
    check_rest(api)
    check_keys()
    check_errors(api)
    check_websocket()
    print("ok")
