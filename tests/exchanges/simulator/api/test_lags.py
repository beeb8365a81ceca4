"""Let every kind of query lag by itself."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.client import ControlClient, ControlRefused
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.helpers import refusal, until

SYMBOL = {"symbol": "BTCUSDT"}
KINDS = ("order", "openOrders", "allOrders", "myTrades", "account")


def known(client: RawClient) -> dict[str, bool]:
    """Return which kinds of query know of the filled order `a` and the open order `b`."""
    rows: dict[str, Any] = {path: client.signed("GET", path, SYMBOL).json() for path in KINDS[1:4]}
    balances = client.signed("GET", "account").json()["balances"]
    locked = next(row["locked"] for row in balances if row["asset"] == "USDT")
    return {
        "order": client.order("b").status_code == 200,
        **{path: bool(found) for path, found in rows.items()},
        "account": float(locked) > 0,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_lags__each_kind_by_itself(client: RawClient, control: ControlClient, kind: str) -> None:
    client.place(newClientOrderId="a")
    control.fill("BTCUSDT", client_order_id="a")
    client.place(newClientOrderId="b")
    assert control.lags(**{kind: 30.0})[kind] == 30.0
    assert known(client) == {name: name != kind for name in KINDS}
    assert control.lags(**{kind: 0})[kind] == 0
    assert all(known(client).values())


def test_lags__show_old_balances_with_their_own_time(
    client: RawClient, control: ControlClient
) -> None:
    before = client.signed("GET", "account").json()["updateTime"]
    control.lags(account=30)
    client.place()
    assert client.signed("GET", "account").json()["updateTime"] == before
    control.lags(account=0)
    assert client.signed("GET", "account").json()["updateTime"] > before


def test_lags__end_when_the_time_has_passed(client: RawClient, control: ControlClient) -> None:
    control.lags(order=0.5, openOrders=30)
    client.place(newClientOrderId="a")
    assert refusal(client.order("a"))[1] == -2013
    assert until(lambda: client.order("a").status_code == 200)
    assert client.signed("GET", "openOrders", SYMBOL).json() == []
    # A cancel goes to the engine, which doesn't lag, and the query still shows the open order.
    cancel = {**SYMBOL, "origClientOrderId": "a"}
    assert client.signed("DELETE", "order", cancel).json()["status"] == "CANCELED"
    assert client.order("a").json()["status"] == "NEW"


def test_lags__show_an_amended_order_under_its_old_id(
    client: RawClient, control: ControlClient
) -> None:
    client.place(newClientOrderId="a")
    assert until(lambda: client.order("a").status_code == 200)
    control.lags(order=0.4)
    assert until(lambda: client.order("a").status_code == 200)
    control.amend_by_hand(
        "BTCUSDT", client_order_id="a", quantity="0.004", new_client_order_id="web"
    )
    assert client.order("a").json()["origQty"] == "0.01000000"
    assert refusal(client.order("web"))[1] == -2013
    assert until(lambda: client.order("web").status_code == 200)
    assert refusal(client.order("a"))[1] == -2013


def test_lags__name_what_is_wrong(control: ControlClient) -> None:
    for seconds, part in [({"orders": 1}, "orders"), ({"order": 61}, "60"), ({"order": -1}, "0")]:
        with pytest.raises(ControlRefused, match=part):
            control.lags(**seconds)
    assert control.lags() == dict.fromkeys(KINDS, 0.0)
