"""Amend orders through the API, by the client and by hand."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.client import ControlClient, ControlRefused
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.helpers import refusal
from tests.exchanges.simulator.server.wsclient import WsClient, run

AMEND = "order/amend/keepPriority"
SYMBOL = {"symbol": "BTCUSDT"}


def test_amend__answers_as_documented(client: RawClient) -> None:
    order_id = client.place(newClientOrderId="a").json()["orderId"]
    params = {**SYMBOL, "origClientOrderId": "a", "newClientOrderId": "b", "newQty": "0.004"}
    answer = client.signed("PUT", AMEND, params).json()
    assert set(answer) == {"transactTime", "executionId", "amendedOrder"}
    order = answer["amendedOrder"]
    assert set(order) == {
        "symbol", "orderId", "orderListId", "origClientOrderId", "clientOrderId", "price", "qty",
        "executedQty", "preventedQty", "quoteOrderQty", "cumulativeQuoteQty", "status",
        "timeInForce", "type", "side", "workingTime", "selfTradePreventionMode",
    }  # fmt: skip
    assert (order["orderId"], order["qty"], order["status"]) == (order_id, "0.00400000", "NEW")
    assert (order["origClientOrderId"], order["clientOrderId"]) == ("a", "b")
    assert refusal(client.order("a"))[1] == -2013
    assert client.order("b").json()["origQty"] == "0.00400000"
    (row,) = client.signed("GET", "order/amendments", {**SYMBOL, "orderId": order_id}).json()
    assert row == {
        "symbol": "BTCUSDT",
        "orderId": order_id,
        "executionId": answer["executionId"],
        "origClientOrderId": "a",
        "newClientOrderId": "b",
        "origQty": "0.01000000",
        "newQty": "0.00400000",
        "time": answer["transactTime"],
    }
    late = {**SYMBOL, "orderId": order_id, "fromExecutionId": answer["executionId"] + 1}
    assert client.signed("GET", "order/amendments", late).json() == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"newQty": None}, -1102),
        ({"newQty": "0"}, -1013),
        ({"newQty": "1e-3"}, -1100),
        ({"origClientOrderId": None}, -1102),
        ({"newClientOrderId": "a b"}, -1100),
        ({"newQty": "0.01"}, -2038),
        ({"newQty": "0.00005"}, -1013),
        ({"newQty": "0.000001"}, -1013),
        ({"symbol": "NOPE"}, -1121),
        ({"origClientOrderId": "nobody"}, -2038),
        ({"color": "green"}, -1104),
    ],
)
def test_amend__refuses_with_documented_codes(
    client: RawClient, changes: dict[str, Any], code: int
) -> None:
    client.place(newClientOrderId="a")
    params = {**SYMBOL, "origClientOrderId": "a", "newQty": "0.004", **changes}
    sent = {name: value for name, value in params.items() if value is not None}
    status, got, _ = refusal(client.signed("PUT", AMEND, sent))
    assert (status, got) == (400, code)
    assert client.order("a").json()["origQty"] == "0.01000000"


def test_amend__of_a_hidden_order_only_by_hand(client: RawClient, control: ControlClient) -> None:
    control.faults.add(match={"method": "POST"}, invisible_for=30)
    order_id = client.place(newClientOrderId="a").json()["orderId"]
    params = {**SYMBOL, "orderId": order_id, "newQty": "0.004"}
    assert refusal(client.signed("PUT", AMEND, params))[1:] == (-2038, "Unknown order sent.")
    assert control.amend_by_hand("BTCUSDT", order_id, quantity="0.004")["amendedOrder"]["qty"]


def test_by_hand__amend_is_told_with_both_ids(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        order_id = (await client.place(newClientOrderId="a"))["result"]["orderId"]
        new = await client.event_of("executionReport")
        control.amend_by_hand(
            "BTCUSDT", client_order_id="a", quantity="0.004", new_client_order_id="web_1"
        )
        report = await client.event_of("executionReport")
        assert (report["x"], report["X"], report["i"]) == ("REPLACED", "NEW", order_id)
        assert (report["C"], report["c"], report["q"]) == ("a", "web_1", "0.00400000")
        assert report["I"] > new["I"]
        assert (report["t"], report["w"], report["O"]) == (-1, True, new["O"])
        control.cancel_by_hand("BTCUSDT", order_id)
        report = await client.event_of("executionReport")
        assert (report["x"], report["C"]) == ("CANCELED", "web_1")
        assert report["c"] not in ("web_1", "a")
        by_ws = await client.place(newClientOrderId="b")
        amended = await client.signed(
            "order.amend.keepPriority", symbol="BTCUSDT", origClientOrderId="b", newQty="0.005"
        )
        assert amended["result"]["amendedOrder"]["orderId"] == by_ws["result"]["orderId"]

    run(sim, scenario)


def test_by_hand__places_under_our_client_order_id_once_it_is_free(
    client: RawClient, control: ControlClient
) -> None:
    order = {**SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
    first = client.place(newClientOrderId="ours").json()["orderId"]
    with pytest.raises(ControlRefused, match="Duplicate order sent"):
        control.place_by_hand(**order, price="49000", newClientOrderId="ours")
    control.fill("BTCUSDT", first)
    second = control.place_by_hand(**order, price="49000", newClientOrderId="ours")
    assert second["orderId"] != first
    assert control.truth().accepted("ours") == 2
    assert client.order("ours").json()["orderId"] == second["orderId"]


def test_by_hand__cancels_all_and_names_what_is_wrong(
    client: RawClient, control: ControlClient
) -> None:
    client.place(), client.place()
    assert len(control.cancel_by_hand("BTCUSDT")) == 2
    for body, part in [
        ({"account": "nobody"}, "nobody"),
        ({"account": "main", "symbol": "BTCUSDT"}, "side"),
        ({"account": "main", "symbol": "BTCUSDT", "color": "green"}, "read"),
        ({"account": "main", "symbol": "BTCUSDT", "quantity": 0.01}, "quantity"),
    ]:
        with pytest.raises(ControlRefused, match=part):
            control.call("POST", "hand/place", body)
