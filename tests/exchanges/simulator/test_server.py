"""REST as documented: answers, refusals, headers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
import requests

from exchanges.simulator.client import ControlClient
from tests.exchanges.simulator.conftest import RawClient, now_ms


def refusal(response: requests.Response) -> tuple[int, int, str]:
    body = response.json()
    return response.status_code, body["code"], body["msg"]


# -------------------------------------------------------------------------------------------- public


def test_ping__is_empty(client: RawClient) -> None:
    assert client.public("ping").json() == {}


def test_time__is_the_servers(client: RawClient) -> None:
    assert abs(client.public("time").json()["serverTime"] - now_ms()) < 2_000


def test_time__in_microseconds_when_asked(client: RawClient) -> None:
    answer = client.public("time", headers={"X-MBX-TIME-UNIT": "microsecond"}).json()
    assert abs(answer["serverTime"] - now_ms() * 1000) < 2_000_000


def test_exchange_info__has_every_symbol_and_the_limits(client: RawClient) -> None:
    info = client.public("exchangeInfo").json()
    names = {row["symbol"] for row in info["symbols"]}
    assert names == {"BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ETHBTC"}
    assert {row["rateLimitType"] for row in info["rateLimits"]} >= {"REQUEST_WEIGHT", "ORDERS", "RAW_REQUESTS"}


def test_exchange_info__symbols_as_json_array(client: RawClient) -> None:
    info = client.public("exchangeInfo", {"symbols": '["ETHBTC","BTCUSDT"]'}).json()
    assert [row["symbol"] for row in info["symbols"]] == ["ETHBTC", "BTCUSDT"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "NOPE"}, -1121),
        ({"symbols": '["BTCUSDT","NOPE"]'}, -1121),
        ({"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ({"symbols": "[oops"}, -1135),
        ({"symbol": "BTCUSDT", "symbols": '["BTCUSDT"]'}, -1128),
        ({"symbol": "BTCUSDT", "symbolStatus": "TRADING"}, -1128),
        ({"symbolStatus": "OPEN"}, -1122),
        ({"permissions": "NOSUCH"}, -1130),
        ({"showPermissionSets": "perhaps"}, -1100),
        ({"symbol": ""}, -1105),
        ({"symbol": "btcusdt"}, -1100),
        ({"unheard": "of"}, -1101),
    ],
)
def test_exchange_info__refuses_with_documented_codes(client: RawClient, params: dict[str, str], code: int) -> None:
    assert refusal(client.public("exchangeInfo", params))[:2] == (400, code)


def test_tickers__one_some_all(client: RawClient) -> None:
    one = client.public("ticker/price", {"symbol": "BTCUSDT"}).json()
    assert one == {"symbol": "BTCUSDT", "price": "60000.00000000"}
    some = client.public("ticker/price", {"symbols": '["BTCUSDT","ETHUSDT"]'}).json()
    assert [row["symbol"] for row in some] == ["BTCUSDT", "ETHUSDT"]
    assert len(client.public("ticker/bookTicker").json()) == 7
    day = client.public("ticker/24hr", {"symbol": "BTCUSDT"}).json()
    assert {"prevClosePrice", "lastQty", "bidPrice", "askQty", "firstId", "count"} <= day.keys()
    mini = client.public("ticker/24hr", {"symbol": "BTCUSDT", "type": "MINI"}).json()
    assert "bidPrice" not in mini


def test_depth__shows_resting_orders(client: RawClient) -> None:
    client.place(price="50000")
    book = client.public("depth", {"symbol": "BTCUSDT"}).json()
    assert book["bids"] == [["50000.00000000", "0.01000000"]]
    assert book["asks"] == []


def test_klines__of_every_interval(client: RawClient, control: ControlClient) -> None:
    control.set_price("BTCUSDT", "61000")
    client.place(side="SELL", price="61000", quantity="0.01")
    client.place(price="61000", quantity="0.01", selfTradePreventionMode="NONE")
    for interval in ("1s", "1m", "15m", "1h", "1d", "3d", "1w", "1M"):
        rows = client.public("klines", {"symbol": "BTCUSDT", "interval": interval}).json()
        assert rows, interval
        opened, *_, closed = rows[-1][:7]
        assert opened <= now_ms() <= closed + 10_000
        assert len(rows[-1]) == 12
    shifted = client.public("klines", {"symbol": "BTCUSDT", "interval": "1d", "timeZone": "5:30"}).json()
    assert (shifted[-1][0] + (5 * 60 + 30) * 60_000) % 86_400_000 == 0
    assert refusal(client.public("klines", {"symbol": "BTCUSDT", "interval": "7m"}))[1] == -1120


def test_unknown_path__is_404(client: RawClient) -> None:
    assert client.public("nothing").status_code == 404


def test_listen_keys__are_gone(client: RawClient) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client.session.request(method, f"{client.url}/api/v3/userDataStream").status_code == 410


def test_weight__on_every_answer(client: RawClient, control: ControlClient) -> None:
    control.limits(request_weight=6000)
    before = int(client.public("ping").headers["X-MBX-USED-WEIGHT-1M"])
    after = int(client.public("depth", {"symbol": "NOPE", "limit": 1000}).headers["X-MBX-USED-WEIGHT"])
    assert after - before == 50


# -------------------------------------------------------------------------------------------- orders


def test_place__full_by_default_for_limit(client: RawClient) -> None:
    answer = client.place(newClientOrderId="first").json()
    assert answer["clientOrderId"] == "first"
    assert answer["status"] == "NEW"
    assert answer["origQty"] == "0.01000000"
    assert answer["orderListId"] == -1
    assert answer["fills"] == []
    assert "stopPrice" not in answer
    assert "icebergQty" not in answer


def test_place__ack_and_result(client: RawClient) -> None:
    ack = client.place(newOrderRespType="ACK").json()
    assert set(ack) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    assert "fills" not in client.place(newOrderRespType="RESULT").json()
    stop = {"type": "STOP_LOSS_LIMIT", "side": "SELL", "stopPrice": "50000", "price": "49900"}
    assert "status" not in client.place(**stop).json()
    result = client.place(**stop, newOrderRespType="RESULT").json()
    assert result["stopPrice"] == "50000.00000000"
    assert result["workingTime"] == -1


def test_place__in_body_query_and_both(client: RawClient) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    rest = {"quantity": "0.01", "price": "50000"}
    assert client.signed("POST", "order", order, body=rest).json()["status"] == "NEW"
    assert client.signed("POST", "order", {**order, **rest}).json()["status"] == "NEW"
    assert client.signed("POST", "order", body={**rest, **order}).json()["status"] == "NEW"
    # A parameter in both counts as sent in the query.
    answer = client.signed("POST", "order", {**order, "price": "49000"}, body=rest).json()
    assert answer["price"] == "49000.00000000"


def test_place__order_count_headers(client: RawClient) -> None:
    headers = client.place().headers
    assert headers["X-MBX-ORDER-COUNT-10S"] == "1"
    assert headers["X-MBX-ORDER-COUNT-1D"] == "1"


def test_place__success_costs_no_weight_and_failure_does(client: RawClient) -> None:
    base = int(client.public("ping").headers["X-MBX-USED-WEIGHT-1M"])
    assert int(client.place().headers["X-MBX-USED-WEIGHT-1M"]) == base
    assert int(client.place(quantity="1000").headers["X-MBX-USED-WEIGHT-1M"]) == base + 1


def test_place__market_fills_against_the_book(client: RawClient, control: ControlClient) -> None:
    control.unfreeze()
    market = {"type": "MARKET", "timeInForce": None, "price": None, "quantity": None, "quoteOrderQty": "1000"}
    answer = client.place(**market).json()
    control.freeze()
    assert answer["status"] == "FILLED"
    assert float(answer["cummulativeQuoteQty"]) == pytest.approx(1000, abs=1)
    fill = answer["fills"][0]
    assert set(fill) == {"price", "qty", "commission", "commissionAsset", "tradeId"}
    assert fill["commissionAsset"] == "BTC"


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"symbol": None}, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ({"symbol": "NOPE"}, -1121, "Invalid symbol."),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "GUESS"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"timeInForce": None}, -1102, "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."),
        ({"quantity": None}, -1102, "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed."),
        ({"price": ""}, -1105, "Parameter 'price' was empty."),
        ({"newClientOrderId": ""}, -1118, "New client order ID was empty."),
        (
            {"newClientOrderId": "x" * 37},
            -1100,
            "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[a-zA-Z0-9-_]{1,36}$'.",
        ),
        (
            {"quantity": "1e3"},
            -1100,
            r"Illegal characters found in parameter 'quantity'; legal range is '^([0-9]{1,20})(\.[0-9]{1,20})?$'.",
        ),
        ({"quantity": "0.123456789"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "99999999999999999999"}, -1108, "Parameter 'quantity' overflowed."),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"price": "0.00"}, -1013, "Invalid price."),
        ({"stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
        ({"type": "MARKET", "timeInForce": None}, -1106, "Parameter 'price' sent when not required."),
        ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"price": "50000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "5"}, -2010, "Account has insufficient balance for requested action."),
        ({"strategyType": "5"}, -1134, "`strategyType` was less than 1000000."),
        ({"recvWindow": "60001"}, -1131, "'recvWindow' must be less than 60000."),
        (
            {"selfTradePreventionMode": "MAYBE"},
            -1130,
            "Data sent for parameter 'selfTradePreventionMode' is not valid.",
        ),
    ],
)
def test_place__refuses_with_documented_codes(
    client: RawClient, control: ControlClient, changes: dict[str, Any], code: int, message: str
) -> None:
    assert refusal(client.place(**changes)) == (400, code, message)
    assert control.truth().accepted_total() == 0


def test_place__unknown_parameter(client: RawClient) -> None:
    status, code, message = refusal(client.place(colour="green"))
    assert (status, code) == (400, -1104)
    assert message == "Not all sent parameters were read; read '8' parameter(s) but was sent '9'."


def test_place__same_parameter_twice(client: RawClient) -> None:
    response = client.session.post(f"{client.url}/api/v3/order?symbol=BTCUSDT&symbol=ETHUSDT")
    assert refusal(response) == (400, -1101, "Duplicate values for a parameter detected.")


def test_place__duplicate_client_order_id_only_while_open(client: RawClient, control: ControlClient) -> None:
    client.place(newClientOrderId="same")
    assert refusal(client.place(newClientOrderId="same")) == (400, -2010, "Duplicate order sent.")
    control.fill("BTCUSDT", client_order_id="same")
    assert client.place(newClientOrderId="same").status_code == 200
    assert control.truth().accepted("same") == 2


def test_place__halted_symbol(client: RawClient, control: ControlClient) -> None:
    control.set_symbol_status("BTCUSDT", "HALT")
    assert refusal(client.place())[1:] == (-1013, "Market is closed.")
    assert client.public("exchangeInfo", {"symbol": "BTCUSDT"}).json()["symbols"][0]["status"] == "HALT"
    assert refusal(client.public("ticker/price", {"symbol": "BTCUSDT", "symbolStatus": "TRADING"}))[1] == -1220


def test_test_order__changes_nothing(client: RawClient, control: ControlClient) -> None:
    order = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01",
        "price": "5e4",
    }
    assert refusal(client.signed("POST", "order/test", order))[1] == -1100
    order["price"] = "50000"
    assert client.signed("POST", "order/test", order).json() == {}
    rates = client.signed("POST", "order/test", {**order, "computeCommissionRates": "true"}).json()
    assert rates["standardCommissionForOrder"] == {"maker": "0.00100000", "taker": "0.00100000"}
    assert control.truth().accepted_total() == 0


def test_query__by_both_ids(client: RawClient) -> None:
    placed = client.place(newClientOrderId="mine").json()
    by_client = client.order("mine").json()
    by_id = client.signed("GET", "order", {"symbol": "BTCUSDT", "orderId": placed["orderId"]}).json()
    assert by_client == by_id
    assert by_id["stopPrice"] == "0.00000000"
    assert by_id["isWorking"] is True
    both = {"symbol": "BTCUSDT", "orderId": placed["orderId"], "origClientOrderId": "other"}
    assert refusal(client.signed("GET", "order", both))[1] == -2039
    assert refusal(client.order("nobody"))[1:] == (-2013, "Order does not exist.")
    assert refusal(client.signed("GET", "order", {"symbol": "BTCUSDT"}))[1] == -1102


def test_cancel__tells_both_ids(client: RawClient) -> None:
    client.place(newClientOrderId="mine")
    answer = client.signed(
        "DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "mine", "newClientOrderId": "cancel-1"}
    ).json()
    assert (answer["origClientOrderId"], answer["clientOrderId"]) == ("mine", "cancel-1")
    assert answer["status"] == "CANCELED"
    assert client.order("mine").json()["status"] == "CANCELED"
    again = client.signed("DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "mine"})
    assert refusal(again) == (400, -2011, "Unknown order sent.")


def test_cancel__restrictions(client: RawClient) -> None:
    client.place(newClientOrderId="mine")
    query = {"symbol": "BTCUSDT", "origClientOrderId": "mine"}
    bad = client.signed("DELETE", "order", {**query, "cancelRestrictions": "NEVER"})
    assert refusal(bad)[1:] == (-1145, "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`.")
    kept = client.signed("DELETE", "order", {**query, "cancelRestrictions": "ONLY_PARTIALLY_FILLED"})
    assert refusal(kept)[1:] == (-2011, "Order was not canceled due to cancel restrictions.")


def test_cancel_all__of_one_symbol(client: RawClient) -> None:
    empty = client.signed("DELETE", "openOrders", {"symbol": "BTCUSDT"})
    assert refusal(empty)[1] == -2011
    for number in range(3):
        client.place(newClientOrderId=f"mine-{number}")
    client.place(symbol="ETHUSDT", quantity="1", price="2000", newClientOrderId="other")
    answer = client.signed("DELETE", "openOrders", {"symbol": "BTCUSDT"}).json()
    assert {row["origClientOrderId"] for row in answer} == {"mine-0", "mine-1", "mine-2"}
    assert [row["clientOrderId"] for row in client.signed("GET", "openOrders").json()] == ["other"]


def test_all_orders__combinations(client: RawClient) -> None:
    ids = [client.place().json()["orderId"] for _ in range(3)]
    everything = client.signed("GET", "allOrders", {"symbol": "BTCUSDT"}).json()
    assert [row["orderId"] for row in everything] == ids
    later = client.signed("GET", "allOrders", {"symbol": "BTCUSDT", "orderId": ids[1]}).json()
    assert [row["orderId"] for row in later] == ids[1:]
    limited = client.signed("GET", "allOrders", {"symbol": "BTCUSDT", "limit": 1}).json()
    assert [row["orderId"] for row in limited] == ids[2:]
    now = now_ms()
    wide = {"symbol": "BTCUSDT", "startTime": now - 86_400_001, "endTime": now}
    assert refusal(client.signed("GET", "allOrders", wide))[1:] == (
        -1127,
        "More than 24 hours between startTime and endTime.",
    )
    assert client.signed("GET", "allOrders", {"symbol": "BTCUSDT", "startTime": now + 60_000}).json() == []


def test_my_trades__combinations(client: RawClient, control: ControlClient) -> None:
    for number in range(3):
        client.place(newClientOrderId=f"t-{number}")
        control.fill("BTCUSDT", client_order_id=f"t-{number}")
    rows = client.signed("GET", "myTrades", {"symbol": "BTCUSDT"}).json()
    assert len(rows) == 3
    assert rows[0]["isMaker"] is True
    by_order = client.signed("GET", "myTrades", {"symbol": "BTCUSDT", "orderId": rows[1]["orderId"]}).json()
    assert by_order == rows[1:2]
    from_id = client.signed("GET", "myTrades", {"symbol": "BTCUSDT", "fromId": rows[1]["id"]}).json()
    assert from_id == rows[1:]
    bad = {"symbol": "BTCUSDT", "fromId": 1, "startTime": now_ms()}
    assert refusal(client.signed("GET", "myTrades", bad))[1:] == (-1128, "Combination of optional parameters invalid.")


def test_account__balances_and_rates(client: RawClient) -> None:
    client.place(quantity="0.1", price="50000")
    answer = client.signed("GET", "account").json()
    rows = {row["asset"]: row for row in answer["balances"]}
    assert rows["USDT"] == {"asset": "USDT", "free": "95000.00000000", "locked": "5000.00000000"}
    assert rows["DOGE"]["free"] == "0.00000000"
    assert answer["commissionRates"]["maker"] == "0.00100000"
    short = client.signed("GET", "account", {"omitZeroBalances": "true"}).json()
    assert {row["asset"] for row in short["balances"]} == {"USDT", "BTC", "ETH"}


def test_small_queries__are_as_documented(client: RawClient) -> None:
    commission = client.signed("GET", "account/commission", {"symbol": "BTCUSDT"}).json()
    assert commission["discount"]["discountAsset"] == "BNB"
    limits = client.signed("GET", "rateLimit/order").json()
    assert [(row["interval"], row["intervalNum"]) for row in limits] == [("SECOND", 10), ("DAY", 1)]
    assert client.signed("GET", "myPreventedMatches", {"symbol": "BTCUSDT", "orderId": 1}).json() == []
    assert client.signed("GET", "myAllocations", {"symbol": "BTCUSDT"}).json() == []
    assert client.signed("GET", "myFilters", {"symbol": "BTCUSDT"}).json()["symbolFilters"]
    rights = client.signed("GET", "/sapi/v1/account/apiRestrictions").json()
    assert rights["enableSpotAndMarginTrading"] is True
    assert rights["enableWithdrawals"] is False
    assert client.signed("GET", "/sapi/v1/asset/tradeFee", {"symbol": "BTCUSDT"}).json()[0]["takerCommission"]
    assert len(client.signed("GET", "/sapi/v1/capital/config/getall").json()) == 7


# ------------------------------------------------------------------------------------------- process


def start_process(*options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "exchanges.simulator", "--api-key", "k", "--api-secret", "s", *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_main__says_where_it_listens_and_stops_at_once(number: signal.Signals) -> None:
    process = start_process("--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert line.startswith("simulator ready on http://127.0.0.1:")
        url = line.split()[-1]
        with requests.Session() as session:
            assert session.get(f"{url}/api/v3/ping").json() == {}
            started = time.monotonic()
            process.send_signal(number)
            assert process.wait(5) == 0
            assert time.monotonic() - started < 1.5
    finally:
        process.kill()
        process.communicate()


def test_main__stops_at_once_with_work_under_way() -> None:
    process = start_process("--port", "0", "--latency-ms", "30000")
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        ControlClient(url).faults.add("never_answer", match={"path": "/api/v3/time"})
        held = [socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) for _ in range(3)]
        for connection, path in zip(held, ("ping", "time", "depth?symbol=BTCUSDT"), strict=True):
            connection.sendall(f"GET /api/v3/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - started < 1.5
        for connection in held:
            connection.close()
    finally:
        process.kill()
        process.communicate()


def test_main__names_a_taken_port(client: RawClient) -> None:
    port = client.url.rsplit(":", 1)[1]
    process = start_process("--port", port)
    output, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"port {port} is taken" in error
    assert output == ""


def test_main__bad_balances_are_named() -> None:
    process = start_process("--port", "0", "--balances", "USDT=many")
    _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "'USDT=many' is not ASSET=AMOUNT" in error
