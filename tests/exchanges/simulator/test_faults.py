"""Scripted faults: what the client sees, and what is true behind its back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from exchanges.simulator.client import ControlClient, ControlRefused
from exchanges.simulator.faults import REQUEST_ACTIONS, STREAM_ACTIONS, FaultBook, FaultError, Subject
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.test_server import refusal

ORDER = {"method": "POST", "path": "/api/v3/order"}


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for a condition, not for a time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# ----------------------------------------------------------------------------------- on the connection


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
def test_close__ends_without_answer(client: RawClient, control: ControlClient, action: str, accepted: int) -> None:
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


def test_delay_execution__past_the_window_is_refused_and_counted(client: RawClient, control: ControlClient) -> None:
    control.faults.add("delay_execution", match=ORDER, seconds=0.8)
    response = client.place(newClientOrderId="a", recvWindow=600)
    assert refusal(response) == (400, -1021, "Timestamp for this request is outside of the recvWindow.")
    assert control.truth().accepted("a") == 0
    # The check just before the engine counts the order although it refuses it.
    assert client.signed("GET", "rateLimit/order").json()[0]["count"] == 1


def test_delay_execution__past_the_gateways_patience(client: RawClient, control: ControlClient) -> None:
    control.settings(engine_timeout_seconds=0.2)
    control.faults.add("delay_execution", match=ORDER, seconds=0.5)
    assert refusal(client.place(newClientOrderId="a"))[:2] == (504, -1007)
    assert control.truth().accepted("a") == 0
    assert until(lambda: control.truth().accepted("a") == 1)


def test_execute_late_after_disconnect__the_client_is_long_gone(client: RawClient, control: ControlClient) -> None:
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
    control.faults.add("execute_late_after_disconnect", match=ORDER, seconds=0.7, skip_engine_check=skip)
    client.timeout = 0.2
    with pytest.raises(requests.ReadTimeout):
        client.place(newClientOrderId="a", recvWindow=600)
    client.session.close()
    # Either way the order goes through the engine's gate once, which the count shows.
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


# -------------------------------------------------------------------------------------- on the answer


@pytest.mark.parametrize("execute", [True, False])
def test_respond__any_status_and_body(client: RawClient, control: ControlClient, execute: bool) -> None:
    body = {"code": -1008, "msg": "Server is currently overloaded with other requests."}
    control.faults.add("respond", match=ORDER, status=503, body=body, execute=execute, headers={"X-Note": "1"})
    response = client.place(newClientOrderId="a")
    assert (response.status_code, response.json(), response.headers["X-Note"]) == (503, body, "1")
    assert control.truth().accepted("a") == int(execute)


def test_timeout__is_minus_1007_with_unknown_outcome(client: RawClient, control: ControlClient) -> None:
    control.faults.add("timeout", match=ORDER)
    assert refusal(client.place(newClientOrderId="a"))[:2] == (504, -1007)
    assert control.truth().accepted("a") == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [("html", "<html>"), ("empty", ""), ("object", "{}"), ("list", "[]"), ("null", "null"), ("truncated", '{"symbol"')],
)
def test_garbage__is_200_with_nonsense(client: RawClient, control: ControlClient, kind: str, text: str) -> None:
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


def test_rate_limited__and_banned_carry_retry_after(client: RawClient, control: ControlClient) -> None:
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


# ----------------------------------------------------------------------------------- what queries know


def test_invisible__unknown_to_every_query_then_known(client: RawClient, control: ControlClient) -> None:
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
    # The engine itself knows it all the time.
    assert refusal(client.place(newClientOrderId="a"))[1:] == (-2010, "Duplicate order sent.")
    assert until(lambda: client.order("a").status_code == 200)
    assert len(client.signed("GET", "myTrades", symbol).json()) == 1


def test_invisible__together_with_a_lost_answer(client: RawClient, control: ControlClient) -> None:
    control.faults.add("reset_after", match=ORDER, invisible_for=1.0)
    with pytest.raises(requests.ConnectionError):
        client.place(newClientOrderId="a")
    assert refusal(client.order("a"))[1] == -2013
    assert until(lambda: client.order("a").status_code == 200)


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


# ------------------------------------------------------------------------------------------- the clock


def test_clock__skewed_server_refuses(client: RawClient, control: ControlClient) -> None:
    control.set_clock_offset(10_000)
    assert abs(client.public("time").json()["serverTime"] - now_ms() - 10_000) < 2_000
    assert refusal(client.place())[1:] == (-1021, "Timestamp for this request is outside of the recvWindow.")
    control.set_clock_offset(-10_000)
    ahead = "Timestamp for this request was 1000ms ahead of the server's time."
    assert refusal(client.place())[1:] == (-1021, ahead)
    control.set_clock_offset(0)
    assert client.place().status_code == 200


def test_clock__skew_of_one_request(client: RawClient, control: ControlClient) -> None:
    control.faults.add(match=ORDER, clock_skew_ms=8_000)
    assert refusal(client.place())[1] == -1021
    assert client.place().status_code == 200


# ------------------------------------------------------------------------------------------ the script


def test_match__narrows_to_symbol_prefix_and_account(client: RawClient, control: ControlClient) -> None:
    match = {**ORDER, "symbol": "BTCUSDT", "client_order_id_prefix": "bad-", "account": "main"}
    rule = control.faults.add("respond", match=match, status=500, times=None)
    assert client.place(newClientOrderId="good-1").status_code == 200
    assert client.place(symbol="ETHUSDT", quantity="1", price="2000", newClientOrderId="bad-0").status_code == 200
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


def test_random__is_repeatable_by_its_seed() -> None:
    rule = {"random": {"seed": 5, "rate": 0.3, "actions": ["reset_after", {"action": "delay_answer", "seconds": 1}]}}

    def strikes() -> list[str | None]:
        book = FaultBook()
        book.add(rule)
        actions = [book.take(Subject("rest", "POST", "/api/v3/order")) for _ in range(50)]
        return [None if action is None else action.action for action in actions]

    first = strikes()
    assert first == strikes()
    assert {"reset_after", "delay_answer", None} == set(first)


def test_random__storm_leaves_the_books_right(client: RawClient, control: ControlClient) -> None:
    """Many clients, every kind of harm: each id is accepted at most once, and only those that answered 200 surely."""
    actions = [
        "reset_before", "reset_after", "close_before", "close_after", "timeout", "rate_limited", "maintenance",
        {"action": "delay_answer", "seconds": 0.02}, {"action": "delay_execution", "seconds": 0.02},
        {"action": "respond", "status": 502, "body": "<html>", "execute": True}, {"action": "garbage", "kind": "cut"},
        {"action": "reset_after", "invisible_for": 0.1},
    ]  # fmt: skip
    control.faults.script([{"match": ORDER, "random": {"seed": 3, "rate": 0.5, "actions": actions}}])

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


def test_latency__is_half_before_and_half_after_the_engine(client: RawClient, control: ControlClient) -> None:
    control.settings(latency_ms=300)
    started = now_ms()
    executed = client.place().json()["transactTime"]
    assert executed - started >= 149
    assert now_ms() - executed >= 149


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"action": "explode"}, "action"),
        ({"action": "drop", "match": {"api": "rest"}}, "action"),
        ({"match": {"verb": "GET"}}, "verb"),
        ({"match": {"api": "fax"}}, "api"),
        ({"match": []}, "match"),
        ({"times": -1}, "times"),
        ({"times": True}, "times"),
        ({"seconds": "soon"}, "seconds"),
        ({"status": 42}, "status"),
        ({"kind": "novel", "action": "garbage"}, "kind"),
        ({"surprise": 1}, "surprise"),
        ({"random": {"rate": 2, "actions": ["none"]}}, "rate"),
        ({"random": {"actions": []}}, "random"),
        ("reset", "object"),
    ],
)
def test_add__refuses_what_it_does_not_understand(rule: Any, key: str) -> None:
    book = FaultBook()
    with pytest.raises(FaultError, match=key):
        book.add([{"action": "none"}, rule])
    assert book.rules == []


DOCS = Path(__file__).parents[3] / "docs" / "simulator.md"


def documented_rules() -> list[Any]:
    """Every JSON object of the page's fault section."""
    section = DOCS.read_text().split("## Faults", 1)[1].split("## In tests", 1)[0]
    blocks = re.findall(r"```json\n(.*?)```", section, re.DOTALL) + re.findall(r"`(\{\".*?\})` \|", section)
    return [json.loads(block) for block in blocks]


def test_docs__every_action_has_an_example_that_is_understood() -> None:
    rules = documented_rules()
    book = FaultBook()
    book.add(rules)
    shown = {rule.get("action", "none") for rule in rules}
    told = DOCS.read_text()
    assert {action for action in REQUEST_ACTIONS | STREAM_ACTIONS if f"`{action}`" not in told} == {"none"}
    assert len(shown) >= 18


# -------------------------------------------------------------------------------------- control plane


def test_control__names_what_is_wrong(control: ControlClient) -> None:
    for name, body, part in [
        ("price", {"symbol": "BTCUSDT"}, "price"),
        ("price", {"symbol": "NOPE", "price": "1"}, "Invalid symbol"),
        ("fill", {"symbol": "BTCUSDT", "client_order_id": "nobody"}, "nobody"),
        ("deposit", {"account": "main", "asset": "USDT", "amount": 1.5}, "amount"),
        ("deposit", {"account": "nobody", "asset": "USDT", "amount": "1"}, "nobody"),
        ("limits", {"request_weight": "many"}, "request_weight"),
        ("settings", {"colour": 1}, "colour"),
        ("symbol", {"symbol": "BTCUSDT", "status": "OPEN"}, "status"),
        ("nothing", {}, "nothing"),
        ("keys", {"account": "main", "api_key": "x", "api_secret": "-----BEGIN PUBLIC KEY-----"}, "api_secret"),
        ("tick", {"count": "many"}, "count"),
        ("accounts", {"account": "main"}, "main"),
    ]:
        with pytest.raises(ControlRefused, match=part):
            control.call("POST", name, body)


def test_control__accounts_keys_and_money(client: RawClient, control: ControlClient) -> None:
    control.add_account("second", {"USDT": "1000"}, api_key="k2", api_secret="s2", maker="0", taker="0.0002")
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


# ----------------------------------------------------------------------------------------------- limits


def test_weight_limit__429_then_418_growing(client: RawClient, control: ControlClient) -> None:
    control.limits(request_weight=10, ban_after=3, first_ban_seconds=60.0)
    depth = {"symbol": "BTCUSDT"}
    assert [client.public("depth", depth).status_code for _ in range(2)] == [200, 200]
    over = client.public("depth", depth)
    assert refusal(over)[:2] == (429, -1003)
    assert 1 <= int(over.headers["Retry-After"]) <= 60
    client.public("ping")
    first = client.public("ping")
    assert first.status_code == 418
    assert 59 <= int(first.headers["Retry-After"]) <= 60
    for _ in range(3):
        last = client.public("ping")
    assert 118 <= int(last.headers["Retry-After"]) <= 120
    control.limits(request_weight=6000)
    assert client.public("ping").status_code == 200


def test_order_limit__429_with_1015_until_the_window_ends(client: RawClient, control: ControlClient) -> None:
    control.limits(orders_10s=0, orders_day=3)
    statuses = [client.place(newClientOrderId=f"o-{number}").status_code for number in range(4)]
    assert statuses == [200, 200, 200, 429]
    response = client.place()
    assert refusal(response) == (429, -1015, "Too many new orders; current limit is 3 orders per 1 DAY.")
    assert int(response.headers["Retry-After"]) >= 1
    # A fill gives orders back, a cancel does not.
    client.signed("DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "o-0"})
    assert client.place().status_code == 429
    control.fill("BTCUSDT", client_order_id="o-1")
    assert client.place().status_code == 200


def test_raw_limit__counts_every_request(client: RawClient, control: ControlClient) -> None:
    control.limits(raw_requests=3)
    assert [client.public("ping").status_code for _ in range(4)] == [200, 200, 200, 429]


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
