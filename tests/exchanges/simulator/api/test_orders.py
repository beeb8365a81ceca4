"""Answer orders and account requests as documented."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.client import ControlClient
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.helpers import refusal


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
    # If a parameter is in both, the query counts.
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
    market = {
        "type": "MARKET",
        "timeInForce": None,
        "price": None,
        "quantity": None,
        "quoteOrderQty": "1000",
    }
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
        (
            {"symbol": None},
            -1102,
            "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
        ),
        ({"symbol": "NOPE"}, -1121, "Invalid symbol."),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "GUESS"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        (
            {"timeInForce": None},
            -1102,
            "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed.",
        ),
        (
            {"quantity": None},
            -1102,
            "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed.",
        ),
        ({"price": ""}, -1105, "Parameter 'price' was empty."),
        ({"newClientOrderId": ""}, -1118, "New client order ID was empty."),
        (
            {"newClientOrderId": "x" * 37},
            -1100,
            (
                "Illegal characters found in parameter 'newClientOrderId'; "
                "legal range is '^[a-zA-Z0-9-_]{1,36}$'."
            ),
        ),
        (
            {"quantity": "1e3"},
            -1100,
            (
                "Illegal characters found in parameter 'quantity'; "
                r"legal range is '^([0-9]{1,20})(\.[0-9]{1,20})?$'."
            ),
        ),
        ({"quantity": "0.123456789"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "99999999999999999999"}, -1108, "Parameter 'quantity' overflowed."),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"price": "0.00"}, -1013, "Invalid price."),
        ({"stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
        (
            {"type": "MARKET", "timeInForce": None},
            -1106,
            "Parameter 'price' sent when not required.",
        ),
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
    status, code, message = refusal(client.place(color="green"))
    assert (status, code) == (400, -1104)
    assert message == "Not all sent parameters were read; read '8' parameter(s) but was sent '9'."


def test_place__same_parameter_twice(client: RawClient) -> None:
    response = client.session.post(f"{client.url}/api/v3/order?symbol=BTCUSDT&symbol=ETHUSDT")
    assert refusal(response) == (400, -1101, "Duplicate values for a parameter detected.")


def test_place__duplicate_client_order_id_only_while_open(
    client: RawClient, control: ControlClient
) -> None:
    client.place(newClientOrderId="same")
    assert refusal(client.place(newClientOrderId="same")) == (400, -2010, "Duplicate order sent.")
    control.fill("BTCUSDT", client_order_id="same")
    assert client.place(newClientOrderId="same").status_code == 200
    assert control.truth().accepted("same") == 2


def test_place__halted_symbol(client: RawClient, control: ControlClient) -> None:
    control.set_symbol_status("BTCUSDT", "HALT")
    assert refusal(client.place())[1:] == (-1013, "Market is closed.")
    assert (
        client.public("exchangeInfo", {"symbol": "BTCUSDT"}).json()["symbols"][0]["status"]
        == "HALT"
    )
    assert (
        refusal(client.public("ticker/price", {"symbol": "BTCUSDT", "symbolStatus": "TRADING"}))[1]
        == -1220
    )


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
    by_id = client.signed(
        "GET", "order", {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    ).json()
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
        "DELETE",
        "order",
        {"symbol": "BTCUSDT", "origClientOrderId": "mine", "newClientOrderId": "cancel-1"},
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
    assert refusal(bad)[1:] == (
        -1145,
        "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`.",
    )
    kept = client.signed(
        "DELETE", "order", {**query, "cancelRestrictions": "ONLY_PARTIALLY_FILLED"}
    )
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
    assert (
        client.signed("GET", "allOrders", {"symbol": "BTCUSDT", "startTime": now + 60_000}).json()
        == []
    )


def test_my_trades__combinations(client: RawClient, control: ControlClient) -> None:
    for number in range(3):
        client.place(newClientOrderId=f"t-{number}")
        control.fill("BTCUSDT", client_order_id=f"t-{number}")
    rows = client.signed("GET", "myTrades", {"symbol": "BTCUSDT"}).json()
    assert len(rows) == 3
    assert rows[0]["isMaker"] is True
    by_order = client.signed(
        "GET", "myTrades", {"symbol": "BTCUSDT", "orderId": rows[1]["orderId"]}
    ).json()
    assert by_order == rows[1:2]
    from_id = client.signed(
        "GET", "myTrades", {"symbol": "BTCUSDT", "fromId": rows[1]["id"]}
    ).json()
    assert from_id == rows[1:]
    bad = {"symbol": "BTCUSDT", "fromId": 1, "startTime": now_ms()}
    assert refusal(client.signed("GET", "myTrades", bad))[1:] == (
        -1128,
        "Combination of optional parameters invalid.",
    )


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
    assert (
        client.signed("GET", "myPreventedMatches", {"symbol": "BTCUSDT", "orderId": 1}).json() == []
    )
    assert client.signed("GET", "myAllocations", {"symbol": "BTCUSDT"}).json() == []
    assert client.signed("GET", "myFilters", {"symbol": "BTCUSDT"}).json()["symbolFilters"]
    rights = client.signed("GET", "/sapi/v1/account/apiRestrictions").json()
    assert rights["enableSpotAndMarginTrading"] is True
    assert rights["enableWithdrawals"] is False
    assert client.signed("GET", "/sapi/v1/asset/tradeFee", {"symbol": "BTCUSDT"}).json()[0][
        "takerCommission"
    ]
    assert len(client.signed("GET", "/sapi/v1/capital/config/getall").json()) == 7
