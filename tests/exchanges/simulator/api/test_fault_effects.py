"""Inject scripted faults: what the client sees, and what is true behind its back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from exchanges.simulator.client import ControlClient
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.helpers import refusal, until

ORDER = {"method": "POST", "path": "/api/v3/order"}


# -------------------------------------------------------------------------------- on the connection


def test_reset_before__nothing_was_executed(client: RawClient, control: ControlClient) -> None:
    control.faults.add("reset_before", match=ORDER)
    with pytest.raises(requests.ConnectionError, match="reset"):
        client.place(newClientOrderId="a")
    assert control.truth().accepted("a") == 0
    assert client.place(newClientOrderId="a").status_code == 200


def test_reset_after__the_order_is_there(client: RawClient, control: ControlClient) -> None:
    control.faults.add("reset_after", match=ORDER)
    with pytest.raises(requests.ConnectionError, match="reset"):
        client.place(newClientOrderId="a")
    assert control.truth().accepted("a") == 1
    assert client.order("a").json()["status"] == "NEW"


@pytest.mark.parametrize(("action", "accepted"), [("close_before", 0), ("close_after", 1)])
def test_close__ends_without_answer(
    client: RawClient, control: ControlClient, action: str, accepted: int
) -> None:
    control.faults.add(action, match=ORDER)
    with pytest.raises(requests.ConnectionError):
        client.place(newClientOrderId="a")
    assert control.truth().accepted("a") == accepted


def test_delay_answer__executes_at_once(client: RawClient, control: ControlClient) -> None:
    control.faults.add("delay_answer", match=ORDER, seconds=0.4)
    answer = client.place(newClientOrderId="a").json()
    assert now_ms() - answer["transactTime"] >= 390


def test_delay_execution__executes_late(client: RawClient, control: ControlClient) -> None:
    control.faults.add("delay_execution", match=ORDER, seconds=0.4)
    started = now_ms()
    assert client.place(newClientOrderId="a").json()["transactTime"] - started >= 400


def test_delay_execution__past_the_window_is_refused_and_counted(
    client: RawClient, control: ControlClient
) -> None:
    control.faults.add("delay_execution", match=ORDER, seconds=0.8)
    response = client.place(newClientOrderId="a", recvWindow=600)
    assert refusal(response) == (
        400,
        -1021,
        "Timestamp for this request is outside of the recvWindow.",
    )
    assert control.truth().accepted("a") == 0
    # The check just before the engine counts the order and then refuses it.
    assert client.signed("GET", "rateLimit/order").json()[0]["count"] == 1


def test_delay_execution__past_the_gateways_patience(
    client: RawClient, control: ControlClient
) -> None:
    control.settings(engine_timeout_seconds=0.2)
    control.faults.add("delay_execution", match=ORDER, seconds=0.5)
    assert refusal(client.place(newClientOrderId="a"))[:2] == (504, -1007)
    assert control.truth().accepted("a") == 0
    assert until(lambda: control.truth().accepted("a") == 1)


def test_execute_late_after_disconnect__the_client_is_long_gone(
    client: RawClient, control: ControlClient
) -> None:
    control.faults.add("execute_late_after_disconnect", match=ORDER, seconds=0.2)
    client.timeout = 0.3
    with pytest.raises(requests.ReadTimeout):
        client.place(newClientOrderId="a")
    client.session.close()
    assert control.truth().accepted("a") == 0
    assert until(lambda: control.truth().accepted("a") == 1)


@pytest.mark.parametrize(("skip", "accepted"), [(False, 0), (True, 1)])
def test_execute_late_after_disconnect__is_fenced_by_the_timestamp(
    client: RawClient, control: ControlClient, skip: bool, accepted: int
) -> None:
    control.faults.add(
        "execute_late_after_disconnect", match=ORDER, seconds=0.7, skip_engine_check=skip
    )
    client.timeout = 0.2
    with pytest.raises(requests.ReadTimeout):
        client.place(newClientOrderId="a", recvWindow=600)
    client.session.close()
    # Both ways the order passes the engine's gate once, and the count shows that.
    assert until(lambda: client_count(control, client) == 1)
    assert control.truth().accepted("a") == accepted


def client_count(control: ControlClient, client: RawClient) -> int:
    del control
    return int(RawClient(client.url).signed("GET", "rateLimit/order").json()[0]["count"])


@pytest.mark.parametrize(("execute", "accepted"), [(True, 1), (False, 0)])
def test_never_answer__holds_the_connection(
    client: RawClient, control: ControlClient, execute: bool, accepted: int
) -> None:
    control.faults.add("never_answer", match=ORDER, execute=execute)
    client.timeout = 0.3
    with pytest.raises(requests.ReadTimeout):
        client.place(newClientOrderId="a")
    assert control.truth().accepted("a") == accepted


# ------------------------------------------------------------------------------------ on the answer


@pytest.mark.parametrize("execute", [True, False])
def test_respond__any_status_and_body(
    client: RawClient, control: ControlClient, execute: bool
) -> None:
    body = {"code": -1008, "msg": "Server is currently overloaded with other requests."}
    control.faults.add(
        "respond", match=ORDER, status=503, body=body, execute=execute, headers={"X-Note": "1"}
    )
    response = client.place(newClientOrderId="a")
    assert (response.status_code, response.json(), response.headers["X-Note"]) == (503, body, "1")
    assert control.truth().accepted("a") == int(execute)


def test_timeout__is_minus_1007_with_unknown_outcome(
    client: RawClient, control: ControlClient
) -> None:
    control.faults.add("timeout", match=ORDER)
    assert refusal(client.place(newClientOrderId="a"))[:2] == (504, -1007)
    assert control.truth().accepted("a") == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("html", "<html>"),
        ("empty", ""),
        ("object", "{}"),
        ("list", "[]"),
        ("null", "null"),
        ("truncated", '{"symbol"'),
    ],
)
def test_garbage__is_200_with_nonsense(
    client: RawClient, control: ControlClient, kind: str, text: str
) -> None:
    control.faults.add("garbage", match=ORDER, kind=kind)
    response = client.place(newClientOrderId="a")
    assert response.status_code == 200
    assert response.text.startswith(text)
    assert not text or len(response.text) < 400
    assert control.truth().accepted("a") == 1


def test_garbage__cut_ends_within_the_body(client: RawClient, control: ControlClient) -> None:
    control.faults.add("garbage", match=ORDER, kind="cut")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        client.place(newClientOrderId="a")
    assert control.truth().accepted("a") == 1


def test_rate_limited__and_banned_carry_retry_after(
    client: RawClient, control: ControlClient
) -> None:
    control.faults.script(
        [
            {"match": ORDER, "action": "rate_limited", "retry_after": 7},
            {"match": ORDER, "action": "banned", "retry_after": 120},
            {"match": ORDER, "action": "maintenance"},
        ]
    )
    limited = client.place()
    assert (limited.status_code, limited.json()["code"]) == (429, -1003)
    assert int(limited.headers["Retry-After"]) in (7, 8)
    banned = client.place()
    assert banned.status_code == 418
    assert 119 <= int(banned.headers["Retry-After"]) <= 121
    assert client.place().status_code == 503
    assert client.place().status_code == 200


def test_maintenance__of_everything(client: RawClient, control: ControlClient) -> None:
    control.set_maintenance(True)
    assert client.public("ping").status_code == 503
    control.set_maintenance(False)
    assert client.public("ping").status_code == 200


# -------------------------------------------------------------------------------- what queries know


def test_invisible__unknown_to_every_query_then_known(
    client: RawClient, control: ControlClient
) -> None:
    control.faults.add(match=ORDER, invisible_for=1.5)
    order_id = client.place(newClientOrderId="a").json()["orderId"]
    control.fill("BTCUSDT", order_id, quantity="0.004")
    symbol = {"symbol": "BTCUSDT"}
    assert refusal(client.order("a"))[1] == -2013
    assert refusal(client.signed("GET", "order", {**symbol, "orderId": order_id}))[1] == -2013
    assert client.signed("GET", "openOrders", symbol).json() == []
    assert client.signed("GET", "allOrders", symbol).json() == []
    assert client.signed("GET", "myTrades", symbol).json() == []
    assert refusal(client.signed("DELETE", "order", {**symbol, "orderId": order_id}))[1] == -2011
    assert refusal(client.signed("DELETE", "openOrders", symbol))[1] == -2011
    assert control.truth().accepted("a") == 1
    # The engine knows the order all the time.
    assert refusal(client.place(newClientOrderId="a"))[1:] == (-2010, "Duplicate order sent.")
    assert until(lambda: client.order("a").status_code == 200)
    assert len(client.signed("GET", "myTrades", symbol).json()) == 1


def test_invisible__together_with_a_lost_answer(client: RawClient, control: ControlClient) -> None:
    control.faults.add("reset_after", match=ORDER, invisible_for=1.0)
    with pytest.raises(requests.ConnectionError):
        client.place(newClientOrderId="a")
    assert refusal(client.order("a"))[1] == -2013
    assert until(lambda: client.order("a").status_code == 200)


@pytest.mark.long
def test_stale_reads__lag_behind_the_engine(client: RawClient, control: ControlClient) -> None:
    client.place(newClientOrderId="old")
    assert until(lambda: client.order("old").json()["updateTime"] < now_ms() - 1_000)
    rule = control.faults.add(match={"method": "GET"}, times=None, stale_for=1.0)
    client.place(newClientOrderId="new")
    client.signed("DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "old"})
    assert refusal(client.order("new"))[1] == -2013
    assert client.order("old").json()["status"] == "NEW"
    balance = client.signed("GET", "account", {"omitZeroBalances": "true"}).json()["balances"]
    assert {row["asset"]: row["locked"] for row in balance}["USDT"] == "500.00000000"
    assert until(lambda: client.order("old").json()["status"] == "CANCELED")
    control.faults.clear(rule)
    assert client.order("new").json()["status"] == "NEW"


# ---------------------------------------------------------------------------------------- the clock


def test_clock__skewed_server_refuses(client: RawClient, control: ControlClient) -> None:
    control.set_clock_offset(10_000)
    assert abs(client.public("time").json()["serverTime"] - now_ms() - 10_000) < 2_000
    assert refusal(client.place())[1:] == (
        -1021,
        "Timestamp for this request is outside of the recvWindow.",
    )
    control.set_clock_offset(-10_000)
    ahead = "Timestamp for this request was 1000ms ahead of the server's time."
    assert refusal(client.place())[1:] == (-1021, ahead)
    control.set_clock_offset(0)
    assert client.place().status_code == 200


def test_clock__skew_of_one_request(client: RawClient, control: ControlClient) -> None:
    control.faults.add(match=ORDER, clock_skew_ms=8_000)
    assert refusal(client.place())[1] == -1021
    assert client.place().status_code == 200


# --------------------------------------------------------------------------------------- the script


def test_match__narrows_to_symbol_prefix_and_account(
    client: RawClient, control: ControlClient
) -> None:
    match = {**ORDER, "symbol": "BTCUSDT", "client_order_id_prefix": "bad-", "account": "main"}
    rule = control.faults.add("respond", match=match, status=500, times=None)
    assert client.place(newClientOrderId="good-1").status_code == 200
    assert (
        client.place(
            symbol="ETHUSDT", quantity="1", price="2000", newClientOrderId="bad-0"
        ).status_code
        == 200
    )
    assert client.place(newClientOrderId="bad-1").status_code == 500
    assert client.place(newClientOrderId="bad-2").status_code == 500
    assert control.faults.hits(rule) == 2
    control.faults.clear()
    assert client.place(newClientOrderId="bad-3").status_code == 200


def test_times_and_skip__count_matches(client: RawClient, control: ControlClient) -> None:
    control.faults.add("respond", match=ORDER, status=500, times=2, skip=1)
    statuses = [client.place().status_code for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert control.faults.list()[0]["remaining"] == 0


def test_random__storm_leaves_the_books_right(client: RawClient, control: ControlClient) -> None:
    """Send orders from many clients through every kind of fault.

    Each id is accepted at most once, and surely if its answer was 200.
    """
    actions = [
        "reset_before", "reset_after", "close_before", "close_after", "timeout", "rate_limited",
        "maintenance", {"action": "delay_answer", "seconds": 0.02},
        {"action": "delay_execution", "seconds": 0.02},
        {"action": "respond", "status": 502, "body": "<html>", "execute": True},
        {"action": "garbage", "kind": "cut"}, {"action": "reset_after", "invisible_for": 0.1},
    ]  # fmt: skip
    control.faults.script(
        [{"match": ORDER, "random": {"seed": 3, "rate": 0.5, "actions": actions}}]
    )

    def storm(worker: int) -> dict[str, bool]:
        own = RawClient(client.url)
        answered = {}
        for number in range(20):
            name = f"w{worker}-{number}"
            try:
                response = own.place(newClientOrderId=name, quantity="0.001")
                answered[name] = response.status_code == 200 and response.json()["status"] == "NEW"
            except requests.RequestException:
                answered[name] = False
        return answered

    with ThreadPoolExecutor(8) as pool:
        answered = {name: good for part in pool.map(storm, range(8)) for name, good in part.items()}
    truth = control.truth()
    accepted = {name: truth.accepted(name) for name in answered}
    assert set(accepted.values()) <= {0, 1}
    assert all(accepted[name] == 1 for name, good in answered.items() if good)
    assert truth.accepted_total() == sum(accepted.values())
    assert truth.balances()["USDT"][1] == 50 * sum(accepted.values())
    assert 40 < control.faults.list()[0]["hits"] < 120


def test_latency__is_half_before_and_half_after_the_engine(
    client: RawClient, control: ControlClient
) -> None:
    control.settings(latency_ms=300)
    started = now_ms()
    executed = client.place().json()["transactTime"]
    assert executed - started >= 149
    assert now_ms() - executed >= 149
