"""Drive the exchange through its control plane."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.simulator.client import ControlClient, ControlRefused
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.helpers import refusal


def test_control__names_what_is_wrong(control: ControlClient) -> None:
    for name, body, part in [
        ("price", {"symbol": "BTCUSDT"}, "price"),
        ("price", {"symbol": "NOPE", "price": "1"}, "Invalid symbol"),
        ("fill", {"symbol": "BTCUSDT", "client_order_id": "nobody"}, "nobody"),
        ("deposit", {"account": "main", "asset": "USDT", "amount": 1.5}, "amount"),
        ("deposit", {"account": "nobody", "asset": "USDT", "amount": "1"}, "nobody"),
        ("limits", {"request_weight": "many"}, "request_weight"),
        ("settings", {"color": 1}, "color"),
        ("symbol", {"symbol": "BTCUSDT", "status": "OPEN"}, "status"),
        ("nothing", {}, "nothing"),
        (
            "keys",
            {"account": "main", "api_key": "x", "api_secret": "-----BEGIN PUBLIC KEY-----"},
            "api_secret",
        ),
        ("tick", {"count": "many"}, "count"),
        ("accounts", {"account": "main"}, "main"),
    ]:
        with pytest.raises(ControlRefused, match=part):
            control.call("POST", name, body)


def test_control__accounts_keys_and_money(client: RawClient, control: ControlClient) -> None:
    control.add_account(
        "second", {"USDT": "1000"}, api_key="k2", api_secret="s2", maker="0", taker="0.0002"
    )
    second = RawClient(client.url, "k2", "s2")
    assert second.place(quantity="0.01").status_code == 200
    control.deposit("USDT", "500", account="second")
    control.withdraw("USDT", "100", account="second")
    assert control.truth().balances("second")["USDT"] == (Decimal(900), Decimal(500))
    control.revoke_key("k2")
    assert refusal(second.signed("GET", "account"))[:2] == (401, -2015)
    control.restore_key("k2")
    assert second.signed("GET", "account").json()["commissionRates"]["taker"] == "0.00020000"
    control.set_can_trade(False, account="second")
    assert refusal(second.place())[1] == -2010
    assert client.place().status_code == 200


def test_control__fill_cancel_expire(client: RawClient, control: ControlClient) -> None:
    for name in ("a", "b", "c"):
        client.place(newClientOrderId=name)
    control.fill("BTCUSDT", client_order_id="a", quantity="0.004")
    assert client.order("a").json()["status"] == "PARTIALLY_FILLED"
    control.fill("BTCUSDT", client_order_id="a")
    assert client.order("a").json()["status"] == "FILLED"
    control.cancel("BTCUSDT", client_order_id="b")
    assert client.order("b").json()["status"] == "CANCELED"
    control.expire("BTCUSDT", client_order_id="c")
    assert client.order("c").json()["status"] == "EXPIRED"
    assert client.order("c").json()["expiryReason"] == "EXCHANGE_CANCELED"


def test_wipe__forgets_orders_and_keeps_keys(client: RawClient, control: ControlClient) -> None:
    client.place(newClientOrderId="a")
    control.wipe()
    assert refusal(client.order("a"))[1] == -2013
    assert control.truth().balances()["USDT"] == (Decimal(100_000), Decimal(0))


def test_requests__are_counted(client: RawClient, control: ControlClient) -> None:
    client.place()
    client.place()
    assert control.truth().requests["POST /api/v3/order"] == 2


def test_reset__is_as_if_just_started(client: RawClient, control: ControlClient) -> None:
    first = client.place(newClientOrderId="a").json()["orderId"]
    control.add_account("second", {})
    control.faults.add("reset_before", times=None)
    control.set_clock_offset(5_000)
    control.reset()
    truth = control.truth()
    assert truth.accepted_total() == 0
    assert set(truth.raw["accounts"]) == {"main"}
    assert control.faults.list() == []
    assert client.place().json()["orderId"] == first
