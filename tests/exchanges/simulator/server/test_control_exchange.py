"""Wipe the exchange, and let symbols and accounts come, change and go."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
import requests

from exchanges.simulator.client import ControlClient, ControlRefused
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.helpers import refusal
from tests.exchanges.simulator.server.wsclient import WsClient, connect, run

SYMBOL = {"symbol": "BTCUSDT"}


def trade(client: RawClient, control: ControlClient) -> tuple[int, int]:
    """Place and fill an order. Return its number and the number of its trade."""
    order_id = int(client.place().json()["orderId"])
    return order_id, int(control.fill("BTCUSDT", order_id)["trade_id"])


def test_wipe__numbers_begin_again_and_streams_end(
    sim: ThreadedSimulator, client: RawClient, control: ControlClient
) -> None:
    async def scenario(stream: WsClient) -> None:
        await stream.signed("userDataStream.subscribe.signature")
        first = trade(client, control)
        execution = (await stream.event_of("executionReport"))["I"]
        second = trade(client, control)
        assert second > first
        control.wipe()
        assert await stream.closed_with() == 1001
        assert control.streams() == []
        assert control.truth().balances()["USDT"] == (Decimal(100_000), Decimal(0))
        assert client.signed("GET", "allOrders", SYMBOL).json() == []

        async def after(again: WsClient) -> None:
            await again.signed("userDataStream.subscribe.signature")
            assert trade(client, control) == first
            assert (await again.event_of("executionReport"))["I"] == execution

        async with connect(sim.ws_url) as again:
            await after(again)

    run(sim, scenario)


@pytest.mark.long
def test_wipe__forgets_requests_that_are_on_their_way(
    client: RawClient, control: ControlClient
) -> None:
    match = {"path": "/api/v3/order"}
    rule = control.faults.add("execute_late_after_disconnect", match=match, seconds=0.3)
    client.timeout = 0.2
    with pytest.raises(requests.ReadTimeout):
        client.place(newClientOrderId="late")
    client.session.close()
    control.wipe(reset=True)
    assert control.faults.hits(rule) == 1
    client.timeout = 10
    time.sleep(0.8)
    assert refusal(client.order("late"))[1] == -2013


def names(client: RawClient) -> set[str]:
    return {row["symbol"] for row in client.public("exchangeInfo").json()["symbols"]}


def test_delist__every_request_is_minus_1121(client: RawClient, control: ControlClient) -> None:
    order_id = client.place(newClientOrderId="a").json()["orderId"]
    control.delist("BTCUSDT")
    assert "BTCUSDT" not in names(client)
    refusals = [
        client.place(),
        client.order("a"),
        client.signed("DELETE", "order", {**SYMBOL, "orderId": order_id}),
        client.signed("GET", "openOrders", SYMBOL),
        client.signed("GET", "allOrders", SYMBOL),
        client.signed("GET", "myTrades", SYMBOL),
        client.public("exchangeInfo", SYMBOL),
        client.public("ticker/price", SYMBOL),
    ]
    assert {refusal(answer)[1:] for answer in refusals} == {(-1121, "Invalid symbol.")}
    assert client.signed("GET", "openOrders").json() == []
    assert client.signed("GET", "account").status_code == 200
    control.tick()
    control.list_symbol("BTCUSDT")
    assert client.order("a").json()["expiryReason"] == "EXCHANGE_CANCELED"


def test_delist__archived_orders_are_minus_2026_later(
    sim: ThreadedSimulator, client: RawClient, control: ControlClient
) -> None:
    async def scenario(stream: WsClient) -> None:
        await stream.signed("userDataStream.subscribe.signature")
        control.delist("ETHUSDT", orders="archive")
        assert await stream.is_silent(0.3)

    eth = {"symbol": "ETHUSDT", "quantity": "1", "price": "2000"}
    client.place(**eth, newClientOrderId="a")
    run(sim, scenario)
    assert control.truth().balances()["USDT"][1] == 0
    control.list_symbol("ETHUSDT")
    assert refusal(client.order("a", "ETHUSDT"))[1] == -2026


def test_archive__of_one_order(client: RawClient, control: ControlClient) -> None:
    client.place(newClientOrderId="a")
    with pytest.raises(ControlRefused, match="closed"):
        control.archive("BTCUSDT", client_order_id="a")
    control.cancel_by_hand("BTCUSDT", client_order_id="a")
    control.archive("BTCUSDT", client_order_id="a")
    assert refusal(client.order("a"))[1] == -2026
    assert client.signed("GET", "allOrders", SYMBOL).json() == []


def test_list_symbol__appears_closed_and_opens(client: RawClient, control: ControlClient) -> None:
    order = {"symbol": "NEWUSDT", "quantity": "10", "price": "2", "newClientOrderId": "a"}
    assert refusal(client.place(**order))[1] == -1121
    control.list_symbol(
        "NEWUSDT", base="NEW", quote="USDT", like="XRPUSDT", price="2", status="BREAK", step="5"
    )
    (row,) = client.public("exchangeInfo", {"symbol": "NEWUSDT"}).json()["symbols"]
    assert (row["status"], row["baseAsset"]) == ("BREAK", "NEW")
    assert refusal(client.place(**order))[1:] == (-1013, "Market is closed.")
    control.set_symbol_status("NEWUSDT", "TRADING")
    assert refusal(client.place(**order | {"quantity": "12"}))[2] == "Filter failure: LOT_SIZE"
    assert client.place(**order).json()["status"] == "NEW"
    control.unfreeze()
    control.tick(3)
    control.reset()
    assert "NEWUSDT" not in names(client)


def test_change_symbol__while_an_order_is_open(client: RawClient, control: ControlClient) -> None:
    client.place(newClientOrderId="old", price="50000.01", quantity="0.00123")
    control.unfreeze()
    control.change_symbol("BTCUSDT", tick="0.1", step="0.001", min_notional="600")
    control.tick(2)
    (row,) = client.public("exchangeInfo", SYMBOL).json()["symbols"]
    filters = {rule["filterType"]: rule for rule in row["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00100000"
    failures = [
        refusal(client.place(**changes))[2]
        for changes in (
            {"price": "50000.01"},
            {"quantity": "0.0123"},
            {"quantity": "0.011"},
        )
    ]
    assert failures == [
        "Filter failure: PRICE_FILTER",
        "Filter failure: LOT_SIZE",
        "Filter failure: NOTIONAL",
    ]
    assert client.order("old").json()["status"] == "NEW"
    assert client.place(quantity="0.02").status_code == 200


def test_permit_symbol__for_one_account(client: RawClient, control: ControlClient) -> None:
    control.add_account("second", {"USDT": "9000"}, api_key="k2", api_secret="s2")
    control.permit_symbol("BTCUSDT", False)
    assert refusal(client.place())[1:] == (
        -2010,
        "This symbol is not permitted for this account.",
    )
    assert RawClient(client.url, "k2", "s2").place().status_code == 200
    control.permit_symbol("BTCUSDT", True)
    assert client.place().status_code == 200
    control.change_symbol("BTCUSDT", permission_sets=[["TRD_GRP_004"]])
    assert refusal(client.place())[1] == -2010


@pytest.mark.parametrize(
    ("verb", "body", "part"),
    [
        ("symbols/delist", {"symbol": "NOPE"}, "Invalid symbol"),
        ("symbols/delist", {"symbol": "BTCUSDT", "orders": "keep"}, "orders"),
        ("symbols/list", {"symbol": "NOPE"}, "NOPE"),
        ("symbols/list", {"symbol": "X", "like": "BTCUSDT", "base": "X"}, "quote"),
        (
            "symbols/list",
            {"symbol": "BTCUSDT", "like": "BTCUSDT", "base": "BTC", "quote": "USDT"},
            "exists",
        ),
        ("symbols/change", {"symbol": "BTCUSDT", "tick": "fine"}, "tick"),
        ("symbols/change", {"symbol": "BTCUSDT", "filters": {"LOT_SIZE": 1}}, "LOT_SIZE"),
        ("symbols/change", {"symbol": "BTCUSDT", "permission_sets": "SPOT"}, "permission_sets"),
        ("symbols/permit", {"symbol": "BTCUSDT", "account": "main"}, "permitted"),
        ("archive", {"symbol": "BTCUSDT", "client_order_id": "nobody"}, "nobody"),
    ],
)
def test_symbols__name_what_is_wrong(
    control: ControlClient, verb: str, body: dict[str, Any], part: str
) -> None:
    with pytest.raises(ControlRefused, match=part):
        control.call("POST", verb, body)


def test_accounts__one_revoked_one_silent_one_healthy(
    client: RawClient, control: ControlClient
) -> None:
    for number in (2, 3):
        control.add_account(
            f"account-{number}", {"USDT": "9000"}, api_key=f"k{number}", api_secret="s"
        )
    revoked, silent = RawClient(client.url, "k2", "s"), RawClient(client.url, "k3", "s")
    control.revoke_key("k2")
    rule = control.faults.time_out("account-3")
    silent.timeout = 0.3
    assert refusal(revoked.place())[:2] == (401, -2015)
    for path in ("account", "openOrders"):
        with pytest.raises(requests.ReadTimeout):
            silent.signed("GET", path)
    assert silent.place().status_code == 200
    assert client.signed("GET", "account").status_code == 200
    assert client.place().status_code == 200
    control.faults.clear(rule)
    assert len(silent.signed("GET", "openOrders").json()) == 1
