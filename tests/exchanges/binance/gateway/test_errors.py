"""Check the error that the gateway raises for each kind of trouble."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import Any

import pytest

from exchanges.binance.gateway import Gateway
from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.types import from_ms
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    CALLS,
    OTHER_READS,
    Ask,
    assert_no_secret_in,
    cancel,
    error_of,
    place,
    read,
    refusal,
)
from tests.exchanges.binance.raw_server import (
    Behavior,
    RawServer,
    answer,
    close,
    raw,
    reset,
    silence,
)

pytestmark = pytest.mark.usefixtures("without_limits")


UNKNOWN = (OutcomeUnknown, OutcomeUnknown, OutcomeUnknown)
UNSENT = (NotSent, NotSent, NotSent)
REFUSED = (OrderRejected, OrderRejected, OrderRejected)
ACCOUNT = (AccountError, AccountError, AccountError)
HTML = "<html><body>Request blocked. signature=0123abcd</body></html>"

ANSWERS: dict[str, tuple[Behavior, tuple[type[GatewayError], ...]]] = {
    # after the request has left
    "FIN before the answer": (close, UNKNOWN),
    "RST before the answer": (reset, UNKNOWN),
    "no answer in time": (silence, UNKNOWN),
    "body cut short": (answer(200, binance.placed(), length=5000), UNKNOWN),
    "head cut short": (raw(b"HTTP/1.1 200 O"), UNKNOWN),
    "not HTTP": (raw(b"\x00\xff garbage\r\n\r\n"), UNKNOWN),
    "bad chunks": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), UNKNOWN),
    "bad gzip": (answer(200, b"{}", headers={"Content-Encoding": "gzip"}), UNKNOWN),
    # 200 and not the order
    "200 empty": (answer(200, b""), UNKNOWN),
    "200 html": (answer(200, HTML), UNKNOWN),
    "200 null": (answer(200, None), UNKNOWN),
    "200 []": (answer(200, []), UNKNOWN),
    "200 {}": (answer(200, {}), UNKNOWN),
    "200 number": (answer(200, 7), UNKNOWN),
    "200 text": (answer(200, b'"ok"'), UNKNOWN),
    "200 half a JSON": (answer(200, json.dumps(binance.placed())[:60]), UNKNOWN),
    "200 NaN": (answer(200, b'{"orderId": NaN}'), UNKNOWN),
    "200 deep": (answer(200, b"[" * 100_000), UNKNOWN),
    "200 bad UTF-8": (answer(200, b'{"symbol": "\xff"}'), UNKNOWN),
    "200 ids only": (answer(200, {"symbol": "BTCUSDT", "orderId": 28, "transactTime": 1}), UNKNOWN),
    "200 an error": (answer(200, refusal(-2010, "Duplicate order sent.")), UNKNOWN),
    "200 no such order": (answer(200, refusal(-2013, "Order does not exist.")), UNKNOWN),
    "201": (answer(201, binance.placed()), UNKNOWN),
    "204": (answer(204), UNKNOWN),
    # redirects are not followed
    "301": (answer(301, headers={"Location": "/api/v3/elsewhere"}), UNKNOWN),
    "302": (answer(302, headers={"Location": "/api/v3/elsewhere"}), UNKNOWN),
    "307": (answer(307, headers={"Location": "/api/v3/elsewhere"}), UNKNOWN),
    "308": (answer(308, headers={"Location": "/api/v3/elsewhere"}), UNKNOWN),
    # the server's faults
    "500 html": (answer(500, HTML), UNKNOWN),
    "502 empty": (answer(502), UNKNOWN),
    "503 -1000": (
        answer(503, refusal(-1000, "Unknown error, please check your request or try again later.")),
        UNKNOWN,
    ),
    "503 without code": (answer(503, {"msg": "Service Unavailable."}), UNKNOWN),
    "503 -1008": (
        answer(503, refusal(-1008, "Server is currently overloaded with other requests.")),
        UNKNOWN,
    ),
    "500 -2010": (
        answer(500, refusal(-2010, "Account has insufficient balance for requested action.")),
        UNKNOWN,
    ),
    "500 -2013": (answer(500, refusal(-2013, "Order does not exist.")), UNKNOWN),
    "400 -1007": (
        answer(400, refusal(-1007, "Timeout waiting for response from backend server.")),
        UNKNOWN,
    ),
    "408 -1007": (
        answer(408, refusal(-1007, "Timeout waiting for response from backend server.")),
        UNKNOWN,
    ),
    "504 -1007": (
        answer(504, refusal(-1007, "Timeout waiting for response from backend server.")),
        UNKNOWN,
    ),
    "400 -1006": (answer(400, refusal(-1006, "An unexpected response was received.")), UNKNOWN),
    "400 unknown code": (answer(400, refusal(-7777, "Something new.")), UNKNOWN),
    "400 code as text": (answer(400, {"code": "-2010", "msg": "Market is closed."}), UNKNOWN),
    "400 without code": (answer(400, {"msg": "Bad Request"}), UNKNOWN),
    "400 html": (answer(400, HTML), UNKNOWN),
    "404 html": (answer(404, HTML), UNKNOWN),
    # limits
    "429": (
        answer(429, refusal(-1003, "Too much request weight used."), headers={"Retry-After": "7"}),
        UNSENT,
    ),
    "429 -1015": (answer(429, refusal(-1015, "Too many new orders.")), UNSENT),
    "418 html": (answer(418, HTML, headers={"Retry-After": "120"}), UNSENT),
    "403 html": (answer(403, HTML), UNSENT),
    "400 -1003": (answer(400, refusal(-1003, "Too many requests queued.")), UNSENT),
    "400 -1021": (
        answer(400, refusal(-1021, "Timestamp for this request is outside of the recvWindow.")),
        UNSENT,
    ),
    # key and account
    "401 -2015": (
        answer(401, refusal(-2015, "Invalid API-key, IP, or permissions for action.")),
        ACCOUNT,
    ),
    "400 -2014": (answer(400, refusal(-2014, "API-key format invalid.")), ACCOUNT),
    "400 -1022": (answer(400, refusal(-1022, "Signature for this request is not valid.")), ACCOUNT),
    "400 -1002": (
        answer(400, refusal(-1002, "You are not authorized to execute this request.")),
        ACCOUNT,
    ),
    "451 html": (answer(451, HTML), ACCOUNT),
    "account disabled": (
        answer(400, refusal(-2010, "This action is disabled on this account.")),
        ACCOUNT,
    ),
    # refusals
    "400 -1013": (answer(400, refusal(-1013, "Filter failure: NOTIONAL")), REFUSED),
    "400 -1121": (answer(400, refusal(-1121, "Invalid symbol.")), REFUSED),
    "400 -1102": (
        answer(400, refusal(-1102, "Mandatory parameter 'price' was not sent.")),
        REFUSED,
    ),
    "400 -2010": (answer(400, refusal(-2010, "Order would immediately match and take.")), REFUSED),
    "duplicate": (
        answer(400, refusal(-2010, "Duplicate order sent.")),
        (DuplicateOrder, OrderRejected, OrderRejected),
    ),
    "unknown order": (
        answer(400, refusal(-2011, "Unknown order sent.")),
        (OutcomeUnknown, OrderNotFound, OutcomeUnknown),
    ),
    "restricted cancel": (
        answer(400, refusal(-2011, "Order was not canceled due to cancel restrictions.")),
        REFUSED,
    ),
    "no such order": (
        answer(400, refusal(-2013, "Order does not exist.")),
        (OutcomeUnknown, OrderNotFound, OrderNotFound),
    ),
}


@pytest.mark.parametrize(
    ("name", "call", "expected"),
    [
        (name, call, expected)
        for name, (_, classes) in ANSWERS.items()
        for call, expected in zip(CALLS, classes, strict=True)
    ],
)
def test_calls__an_answer_has_its_class(
    server: RawServer,
    exchange: Gateway,
    caplog: pytest.LogCaptureFixture,
    name: str,
    call: str,
    expected: type[GatewayError],
) -> None:
    caplog.set_level(logging.DEBUG)
    server.then(ANSWERS[name][0])
    error = error_of(CALLS[call], exchange)
    assert type(error) is expected, error
    assert "elsewhere" not in {request.path.rpartition("/")[2] for request in server.received}
    assert_no_secret_in(error, caplog, server)
    # One request each: nothing is sent twice, but a read whose timestamp was refused.
    assert len(server.received) == (2 if (call, name) == ("read", "400 -1021") else 1)


@pytest.mark.parametrize(
    "name", ["FIN before the answer", "200 empty", "200 null", "200 {}", "200 html", "502 empty"]
)
@pytest.mark.parametrize("ask", OTHER_READS.values(), ids=OTHER_READS)
def test_reads__a_failed_question_is_no_answer(
    server: RawServer, exchange: Gateway, ask: Ask, name: str
) -> None:
    server.then(ANSWERS[name][0])
    assert type(error_of(ask, exchange)) is OutcomeUnknown


@pytest.mark.parametrize("body", [{"orders": []}, "x", 7])
@pytest.mark.parametrize("ask", list(OTHER_READS.values())[:3], ids=list(OTHER_READS)[:3])
def test_lists__an_answer_that_is_no_list_is_no_answer(
    server: RawServer, exchange: Gateway, ask: Ask, body: Any
) -> None:
    server.then(answer(200, body))
    assert type(error_of(ask, exchange)) is OutcomeUnknown


BAD_FIELDS: list[dict[str, Any]] = [
    {"origQty": True},
    {"origQty": "NaN"},
    {"origQty": "Infinity"},
    {"origQty": "1e-31"},
    {"origQty": "4E-19"},
    {"origQty": "0.1000000000000000001"},
    {"origQty": "1e20"},
    {"origQty": "1e999"},
    {"origQty": "-0.003"},
    {"origQty": ""},
    {"origQty": "0,003"},
    {"origQty": "٣"},
    {"origQty": None},
    {"executedQty": "-1"},
    {"price": None},
    {"cummulativeQuoteQty": ""},
    {"status": ""},
    {"status": None},
    {"status": 7},
    {"side": "HOLD"},
    {"orderId": "28x"},
    {"orderId": "9" * 19},
    {"orderId": None},
    {"orderId": True},
    {"clientOrderId": None, "origClientOrderId": None},
    {"symbol": None},
    {"transactTime": "soon", "updateTime": "soon"},
    {"transactTime": 10**18, "updateTime": 10**18},
    {"transactTime": None, "updateTime": None, "time": None},
]
OTHER_ORDER: list[dict[str, Any]] = [
    {"symbol": "ETHUSDT"},
    {"clientOrderId": "bo-other-1", "origClientOrderId": "bo-other-1"},
]


@pytest.mark.parametrize("changes", BAD_FIELDS + OTHER_ORDER, ids=str)
def test_calls__a_malformed_or_foreign_order_is_no_answer(
    server: RawServer, exchange: Gateway, changes: dict[str, Any]
) -> None:
    for ask, row in (
        (place, binance.placed()),
        (cancel, binance.canceled()),
        (read, binance.queried()),
    ):
        server.then(
            answer(200, {**row, **{name: value for name, value in changes.items() if name in row}})
        )
        assert type(error_of(ask, exchange)) is OutcomeUnknown


@pytest.mark.parametrize(
    "changes",
    [
        {"fills": {}},
        {"fills": [binance.fill(qty=True)]},
        {"fills": [binance.fill(tradeId=None)]},
        {"fills": [binance.fill(commission=None)]},
        {"side": "SELL"},
    ],
    ids=str,
)
def test_place__malformed_fills_or_another_side_are_no_answer(
    server: RawServer, exchange: Gateway, changes: dict[str, Any]
) -> None:
    server.then(answer(200, binance.placed(**changes)))
    assert type(error_of(place, exchange)) is OutcomeUnknown


AS_NUMBERS = {
    "origQty": 1,
    "executedQty": 1e-8,
    "price": 60000,
    "cummulativeQuoteQty": 60.5,
    "orderId": str(2**53 + 1),
}


def test_calls__figures_may_be_numbers_and_numbers_texts(
    server: RawServer, exchange: Gateway
) -> None:
    """Another implementation may write figures as numbers, ids as texts, microseconds for times."""
    late = {"time": 1_900_000_000_123_456, "updateTime": 1_900_000_000_123_456}
    for ask, row in ((read, binance.queried()), (cancel, binance.canceled())):
        times = {name: value for name, value in late.items() if name in row}
        server.then(answer(200, {**row, **AS_NUMBERS, **times}))
        report = ask(exchange)
        assert (report.quantity, report.filled_quantity) == (Decimal(1), Decimal("0.00000001"))
        assert (report.price, report.filled_quote_quantity) == (Decimal(60000), Decimal("60.5"))
        assert report.exchange_order_id == str(2**53 + 1)
        if times:
            assert report.updated_at == report.created_at == from_ms(1_900_000_000_123)


def test_place__an_answer_without_fills_is_an_answer(server: RawServer, exchange: Gateway) -> None:
    """An exchange that ignores `newOrderRespType` sends RESULT: the trades are fetched."""
    row = binance.placed()
    del row["fills"]
    server.then(answer(200, row))
    report = place(exchange)
    assert (report.status, report.fills) == (row["status"], ())


def test_read__an_order_without_its_last_change_has_the_time_of_its_placement(
    server: RawServer, exchange: Gateway
) -> None:
    row = binance.queried(cummulativeQuoteQty=None)
    del row["updateTime"]
    server.then(answer(200, row))
    report = read(exchange)
    assert report.updated_at == report.created_at
    assert report.filled_quote_quantity is None


@pytest.mark.parametrize("ask", ["cancel", "fetch_order"])
def test_calls_by_exchange_id__another_order_is_no_answer(
    server: RawServer, exchange: Gateway, ask: str
) -> None:
    server.then(answer(200, {**binance.canceled(orderId=29), **binance.queried(orderId=29)}))
    with pytest.raises(OutcomeUnknown, match="order id"):
        getattr(exchange, ask)(symbol="BTCUSDT", exchange_order_id="28")


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        (binance.account(balances=None), "account"),
        ({"symbols": {}}, "instruments"),
    ],
)
def test_reads__malformed_rows_are_no_answer(
    server: RawServer, exchange: Gateway, body: Any, ask: str
) -> None:
    server.then(answer(200, body))
    assert type(error_of(OTHER_READS[ask], exchange)) is OutcomeUnknown
