"""Alter one row of an answer or an event, so that it is hard to read."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.client import ControlClient
from exchanges.simulator.exchange.alteration import Alteration
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.server.wsclient import WsClient, run

SYMBOL = {"symbol": "BTCUSDT"}


@pytest.mark.parametrize(
    ("alteration", "body", "altered"),
    [
        ({"row": 1, "values": {"a": ""}}, [{"a": 1}, {"a": 2}], [{"a": 1}, {"a": ""}]),
        ({"row": 5, "values": {"a": ""}}, [{"a": 1}], [{"a": 1}]),
        (
            {"where": {"a": 2}, "values": {"b": None}},
            [{"a": 1}, {"a": 2, "b": 0}, {"a": 2}],
            [{"a": 1}, {"a": 2, "b": None}, {"a": 2, "b": None}],
        ),
        ({"remove": ["a"]}, {"a": 1, "b": 2}, {"b": 2}),
        (
            {"where": {"s": "X"}, "append": {"filters": 9}},
            {"timezone": "UTC", "symbols": [{"s": "X", "filters": [1]}, {"s": "Y"}]},
            {"timezone": "UTC", "symbols": [{"s": "X", "filters": [1, 9]}, {"s": "Y"}]},
        ),
        ({"values": {"f": "-1"}}, {"e": "x", "B": [{"f": "1"}]}, {"e": "x", "B": [{"f": "-1"}]}),
        ({"values": {"a": 1}}, ["text"], ["text"]),
        ({"values": {"a": 1}}, None, None),
    ],
)
def test_apply__alters_a_copy(alteration: dict[str, Any], body: Any, altered: Any) -> None:
    before = repr(body)
    assert Alteration(**alteration).apply(body) == altered
    assert repr(body) == before


@pytest.mark.parametrize(
    "values",
    [
        {"clientOrderId": ""},
        {"origQty": "0.00000000"},
        {"clientOrderId": "x" * 300},
        {"status": "MELTED"},
        {"type": "PEGGED"},
        {"price": None},
    ],
)
def test_alter__one_row_of_a_list(
    client: RawClient, control: ControlClient, values: dict[str, Any]
) -> None:
    for name in ("a", "b", "c"):
        client.place(newClientOrderId=name)
    plain = client.signed("GET", "openOrders", SYMBOL).json()
    match = {"path": "/api/v3/openOrders"}
    control.faults.add("alter", match=match, row=1, set=values)
    altered = client.signed("GET", "openOrders", SYMBOL).json()
    assert altered == [plain[0], plain[1] | values, plain[2]]
    assert client.signed("GET", "openOrders", SYMBOL).json() == plain


def test_alter__rules_of_one_symbol(client: RawClient, control: ControlClient) -> None:
    match = {"path": "/api/v3/exchangeInfo"}
    where = {"symbol": "ETHUSDT"}
    control.faults.add("alter", match=match, where=where, set={"filters": None})
    control.faults.add(
        "alter", match=match, where=where, append={"filters": {"filterType": "MOON_PHASE"}}
    )
    rows = [client.public("exchangeInfo").json()["symbols"] for _ in range(3)]
    by_name = [{row["symbol"]: row["filters"] for row in listed} for listed in rows]
    assert by_name[0]["ETHUSDT"] is None
    assert by_name[1]["ETHUSDT"][-1] == {"filterType": "MOON_PHASE"}
    assert by_name[0]["BTCUSDT"] == by_name[1]["BTCUSDT"] == by_name[2]["BTCUSDT"]


def test_alter__leaves_a_refusal_alone(client: RawClient, control: ControlClient) -> None:
    control.faults.add("alter", match={"method": "GET"}, set={"code": 0})
    assert client.order("nobody").json()["code"] == -2013


def test_alter__an_event_and_an_answer_on_the_websocket(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        reports = {"api": "stream", "event": "executionReport"}
        control.faults.add("alter", match=reports, set={"X": "MELTED"}, remove=["c"])
        control.faults.add(
            "alter",
            match={"api": "stream", "event": "outboundAccountPosition"},
            where={"a": "USDT"},
            set={"f": "much"},
        )
        control.faults.add("alter", match={"method": "order.place"}, set={"orderId": None})
        placed = await client.place(newClientOrderId="a")
        assert placed["result"]["orderId"] is None
        report = await client.event_of("executionReport")
        assert report["X"] == "MELTED"
        assert "c" not in report
        position = await client.event_of("outboundAccountPosition")
        assert [row["f"] for row in position["B"] if row["a"] == "USDT"] == ["much"]

    run(sim, scenario)
