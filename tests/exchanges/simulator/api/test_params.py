"""Send all combinations of parameters: each gets a documented answer, without an error or hang."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchanges.simulator.api.endpoints.trading import ORDER_NAMES, read_order
from exchanges.simulator.api.params import Params, merge_pairs, parse_pairs
from exchanges.simulator.client import ControlClient
from exchanges.simulator.errors import ApiError
from exchanges.simulator.server.rest import OPERATIONS
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.server.wsclient import connect, sign_params

DOCUMENTED_CODES = {
    -1003, -1013, -1015, -1020, -1021, -1022, -1100, -1101, -1102, -1104, -1105, -1106, -1108,
    -1111, -1112, -1114, -1115, -1116, -1117, -1118, -1119, -1120, -1121, -1122, -1127, -1128,
    -1130, -1131, -1134, -1135, -1139, -1145, -1151, -1194, -1220, -2010, -2011, -2013, -2014,
    -2015, -2016, -2026, -2039, -2043,
}  # fmt: skip

VALUES = st.one_of(
    st.sampled_from(
        [
            "", "0", "1", "-1", "0.01", "0.00000001", "0.000000001", "50000", "60000", "1e5", "NaN",
            "Infinity", "null", "true", "false", "TRUE", "BTCUSDT", "ETHBTC", "NOPE", "btcusdt",
            "BUY", "SELL", "LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT",
            "TAKE_PROFIT", "TAKE_PROFIT_LIMIT", "GTC", "IOC", "FOK", "ACK", "RESULT", "FULL",
            "NONE", "EXPIRE_BOTH", "EXPIRE_MAKER", "DECREMENT", "TRANSFER", "1m", "1M", "1w", "3d",
            "0:99", "5:45", "-12:00", '["BTCUSDT"]', '["BTCUSDT","BTCUSDT"]', "[]", "[1]", "[",
            '{"a":1}', "[[]]", "99999999999999999999", "9223372036854775807", "9223372036854775808",
            "1000000", "100", "5000", "5001", "ONLY_NEW", "TRADING", "HALT", "SPOT", "MINI", "7d",
            "1700000000000", "1700000000000000",
        ]
    ),
    st.sampled_from(
        [
            "A" * 5_000, "9" * 400, "[" * 3_000, "\0", '["BTCUSDT"]\0', "é", "😀", "٣", "１",
            "\u202e", " 1", "1 ", "\t", "\r\nX: y", "1e308", "-1e5", "1E-8", "0x10", "1_000", "+1",
            "--1", "-0", "-9223372036854775809", "%", "%00", "'a'; --", "<a>", "../..", "a=b&c=d",
            ";", "BTCUSDT,ETHUSDT", '["BTCUSDT",null]', '["BTCUSDT"', "['a']", "[[[[]]]]",
            '["BTCUSDT"]["ETHUSDT"]', "0.0000000000000000000001",
        ]
    ),
    st.integers(-5, 10**19).map(str),
    st.decimals(min_value=0, max_value=10**6, allow_nan=False, places=5).map(str),
    st.text(max_size=20),
)  # fmt: skip
NAMES = sorted({name for item in OPERATIONS for name in item.names} | {"unheard", "apiKey"})
OPERATION = st.sampled_from(OPERATIONS)
RANDOM_PARAMS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)


@st.composite
def likely_params(draw: st.DrawFn) -> tuple[Any, dict[str, str]]:
    """Draw an operation with mostly its own parameters and valid values.

    This reaches the code behind the first checks.
    """
    chosen = draw(OPERATION)
    own = sorted(chosen.names - {"signature", "timestamp", "recvWindow"})
    params = draw(st.dictionaries(st.sampled_from(own), VALUES, max_size=len(own))) if own else {}
    fitting = {
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
        "quantity": "0.01", "price": "50000", "interval": "1m", "orderId": "1",
    }  # fmt: skip
    for name, value in fitting.items():
        if name in chosen.names and draw(st.integers(0, 9)) < 7:
            params[name] = value
    return chosen, params


def check(client: RawClient, operation: Any, params: dict[str, str]) -> None:
    if operation.signed:
        params = {
            name: value for name, value in params.items() if name not in ("signature", "timestamp")
        }
        response = client.signed(operation.method, operation.path, params)
    else:
        response = client.session.get(client.url + operation.path, params=params, timeout=10)
    if response.status_code == 200:
        assert isinstance(response.json(), dict | list)
        return
    body = response.json()
    assert response.status_code in (400, 401, 429), (operation.path, params, body)
    assert body["code"] in DOCUMENTED_CODES, (operation.path, params, body)
    assert body["msg"]


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=likely_params())
def test_any_fitting_parameters__documented_answer(
    client: RawClient, case: tuple[Any, dict[str, str]]
) -> None:
    check(client, *case)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operation=OPERATION, params=RANDOM_PARAMS)
def test_any_parameters__documented_answer(
    client: RawClient, operation: Any, params: dict[str, str]
) -> None:
    check(client, operation, params)


JSON_VALUES = st.one_of(
    VALUES,
    st.integers(-5, 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(VALUES, max_size=2),
    st.just({}),
)
WS_METHODS = [
    *sorted({item.ws_method for item in OPERATIONS} - {""}), "session.logon", "session.status",
    "session.logout", "session.subscriptions", "userDataStream.subscribe",
    "userDataStream.subscribe.signature", "userDataStream.unsubscribe", "no.such",
]  # fmt: skip


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    params = draw(st.dictionaries(st.sampled_from(NAMES), JSON_VALUES, max_size=6))
    if draw(st.booleans()):
        fitting = {
            name: value
            for name, value in params.items()
            if isinstance(value, str | int) and name != "apiKey"
        }
        params = sign_params({"symbol": "BTCUSDT", **fitting, "timestamp": now_ms()})
    return {
        "id": draw(st.integers(0, 10**6)),
        "method": draw(st.sampled_from(WS_METHODS)),
        "params": params,
    }


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batch=st.lists(frames(), min_size=1, max_size=20))
def test_any_frames__documented_answer(sim: ThreadedSimulator, batch: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with connect(sim.ws_url) as socket:
            for frame in batch:
                answer = await socket.send(frame)
                assert answer["id"] == frame["id"] or answer["error"]["code"] == -1135, (
                    frame,
                    answer,
                )
                if answer["status"] != 200:
                    assert answer["status"] in (400, 401, 429), (frame, answer)
                    assert answer["error"]["code"] in DOCUMENTED_CODES | {-2035, -2036}, (
                        frame,
                        answer,
                    )

    asyncio.run(main())


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(query=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_any_query_text__documented_answer(client: RawClient, query: str) -> None:
    response = client.session.get(
        f"{client.url}/api/v3/ticker/price?{query.replace('#', '%23')}", timeout=10
    )
    assert response.status_code in (200, 400)


@pytest.mark.parametrize(
    "target",
    [
        b"/api/v3/ticker/price?symbol=\xff\xfe",
        b"/api/v3/ticker/price?symbol=%ff%fe",
        b"/api/v3/ticker/price?symbol=%",
        b"/api/v3/ticker/price?%00=%00",
        b"/api/v3/order?symbol=\xff&timestamp=1&signature=\xff",
        b"/api/v3/order?symbol=BTCUSDT&timestamp=1&signature=%ed%a0%80",
        b"http://other.host/api/v3/ticker/price?symbol=BTC%20USDT",
        b"/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=" + b"9" * 4_000,
    ],
)
def test_raw_bytes__documented_answer(client: RawClient, target: bytes) -> None:
    host, port = client.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        request = (
            b"GET "
            + target
            + b" HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: test-key\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.split(b" ", 2)[1] in (b"400", b"401"), answer
    assert b"Server got itself in trouble" not in answer


@pytest.mark.parametrize("length", [10_000, 500_000])
def test_a_very_long_parameter__is_refused_like_any_other(client: RawClient, length: int) -> None:
    response = client.public("ticker/price", {"symbol": "X" * length})
    assert (response.status_code, response.json()["code"]) == (400, -1100)
    assert (
        client.signed("GET", "order", {"symbol": "X" * length, "orderId": 1}).json()["code"]
        == -1100
    )


def test_a_very_long_limit__is_refused_like_any_other(client: RawClient) -> None:
    """Python refuses to read so many digits as a number, and the weight of depth needs it."""
    response = client.public("depth", {"symbol": "BTCUSDT", "limit": "9" * 5_000})
    assert (response.status_code, response.json()["code"]) == (400, -1100)


def test_a_very_long_key__is_refused_like_any_other(client: RawClient) -> None:
    stranger = RawClient(client.url, key="k" * 20_000)
    assert stranger.signed("GET", "account").json()["code"] == -2015


def test_a_form_of_megabytes__is_refused(client: RawClient) -> None:
    response = client.signed("POST", "order", body={"symbol": "X" * 2_000_000})
    assert (response.status_code, response.json()["code"]) == (413, -1101)


@pytest.mark.parametrize(
    "query", ["symbol=BTCUSDT&symbol=BTCUSDT", "symbol=BTCUSDT&symbol=ETHUSDT", "symbol=&symbol="]
)
def test_a_parameter_sent_twice__is_refused(client: RawClient, query: str) -> None:
    response = client.session.get(f"{client.url}/api/v3/ticker/price?{query}", timeout=10)
    assert (response.status_code, response.json()["code"]) == (400, -1101)


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v3/no/such", 404), ("/api/v3/userDataStream", 410)]
)
def test_an_answer_without_operation__has_the_used_weight_too(
    client: RawClient, path: str, status: int
) -> None:
    response = client.session.post(client.url + path, timeout=10)
    assert response.status_code == status
    assert response.headers["X-MBX-USED-WEIGHT-1M"].isdigit()


def test_truth__counts_no_failure_of_ours(control: ControlClient) -> None:
    assert control.truth().raw["internal_errors"] == 0


# -------------------------------------------------------------------------------------------- units


def test_parse_pairs__decodes_what_was_encoded() -> None:
    assert parse_pairs("a=1&b=%5B%22X%22%5D&c=x+y&d&=e") == {
        "a": "1",
        "b": '["X"]',
        "c": "x y",
        "d": "",
        "": "e",
    }


def test_merge_pairs__query_wins() -> None:
    assert merge_pairs("a=1&b=2", "b=3&c=4") == {"a": "1", "b": "2", "c": "4"}


@pytest.mark.parametrize(
    ("value", "units"),
    [
        ("1", 100_000_000),
        ("0.00000001", 1),
        ("1.50", 150_000_000),
        ("0.100000000000", 10_000_000),
        ("007", 700_000_000),
    ],
)
def test_units__are_exact(value: str, units: int) -> None:
    assert Params({"quantity": value}).units("quantity") == units


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", -1105), ("-1", -1100), ("+1", -1100), ("1.", -1100), (".5", -1100), ("1,5", -1100),
        ("1e2", -1100), ("NaN", -1100), ("٣", -1100), (" 1", -1100), ("1\n", -1100),
        ("0.000000001", -1111), ("0", -1013), ("0.0", -1013), ("92233720368.54775808", -1108),
        ("1" * 21, -1100),
    ],
)  # fmt: skip
def test_units__refuses(value: str, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        Params({"quantity": value}).units("quantity")
    assert caught.value.code == code


def test_units__largest() -> None:
    assert Params({"quantity": "92233720368.54775807"}).units("quantity") == 2**63 - 1


@pytest.mark.parametrize(
    ("name", "value", "milliseconds"),
    [
        ("startTime", "1700000000000", 1_700_000_000_000),
        ("startTime", "1700000000000999", 1_700_000_000_000),
    ],
)
def test_time__milliseconds_or_microseconds(name: str, value: str, milliseconds: int) -> None:
    assert Params({name: value}).time_ms(name) == milliseconds


def test_limit__is_clamped_and_not_zero() -> None:
    assert Params({"limit": "5000"}).limit(500, 1000) == 1000
    assert Params({}).limit(500, 1000) == 500
    with pytest.raises(ApiError):
        Params({"limit": "0"}).limit(500, 1000)


def test_read_order__every_parameter() -> None:
    order = read_order(
        Params(
            {
                "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS_LIMIT",
                "timeInForce": "GTC", "quantity": "1", "price": "2", "stopPrice": "3",
                "trailingDelta": "10", "icebergQty": "0.5", "strategyId": "7",
                "strategyType": "1000000", "selfTradePreventionMode": "NONE",
                "newClientOrderId": "a-b_C",
            }
        )
    )  # fmt: skip
    assert (order.quantity, order.price, order.stop_price) == (10**8, 2 * 10**8, 3 * 10**8)
    assert (order.trailing_delta, order.strategy_id, order.strategy_type) == (10, 7, 1_000_000)
    assert set(ORDER_NAMES.split()) >= {"icebergQty", "quoteOrderQty"}
