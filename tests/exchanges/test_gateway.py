"""The gateway against a server that answers, misbehaves and remembers."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import ssl
import threading
import traceback
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from pytest_django.fixtures import Settings

from exchanges import clock, gateway, limits, metrics, server_clock, wire
from exchanges.credentials import Account, read_credentials, read_hosts
from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.gateway import Gateway, get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import OrderRequest, OrderType, ReportSource, Side, TimeInForce
from tests.exchanges import binance_answers as binance
from tests.exchanges.raw_server import (
    Behaviour,
    RawServer,
    answer,
    close,
    closed_port,
    raw,
    reset,
    silence,
    unanswering_port,
)

pytestmark = pytest.mark.usefixtures("without_limits")
API_KEY = "SENTINEL-KEY-b1946ac92492d2347c6235b4d2611184"
API_SECRET = "SENTINEL-SECRET-591785b794601e212b260e25925636fd"

Ask = Callable[[Gateway], Any]


@pytest.fixture
def server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.stop()


@pytest.fixture
def account(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    monkeypatch.setenv("EXCHANGE_BOT_1_API_KEY", API_KEY)
    monkeypatch.setenv("EXCHANGE_BOT_1_API_SECRET", API_SECRET)
    monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", server.url)
    return ExchangeAccount(name="bot-1", environment="simulator")


@pytest.fixture
def exchange(account: ExchangeAccount, settings: Settings) -> Iterator[Gateway]:
    settings.EXCHANGE_REQUEST_TIMEOUT_MS = 400
    exchange = Gateway(account, read_credentials(account))
    yield exchange
    exchange.close()


def order_request(**changes: Any) -> OrderRequest:
    request = OrderRequest(
        symbol=binance.SYMBOL,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        client_order_id=binance.CLIENT_ORDER_ID,
        timestamp_ms=1_770_000_000_000,
        recv_window_ms=4321,
        quantity=Decimal("0.00300"),
        price=Decimal("60000.10"),
        time_in_force=TimeInForce.GTC,
    )
    return replace(request, **changes)


def place(exchange: Gateway) -> Any:
    return exchange.place(order_request())


def cancel(exchange: Gateway) -> Any:
    return exchange.cancel(symbol=binance.SYMBOL, client_order_id=binance.CLIENT_ORDER_ID)


def read(exchange: Gateway) -> Any:
    return exchange.fetch_order(symbol=binance.SYMBOL, client_order_id=binance.CLIENT_ORDER_ID)


CALLS: dict[str, Ask] = {"place": place, "cancel": cancel, "read": read}
OTHER_READS: dict[str, Ask] = {
    "open orders": lambda exchange: exchange.fetch_open_orders(),
    "all orders": lambda exchange: exchange.fetch_all_orders(symbol=binance.SYMBOL),
    "trades": lambda exchange: exchange.fetch_trades(symbol=binance.SYMBOL),
    "account": lambda exchange: exchange.fetch_account(),
    "instruments": lambda exchange: exchange.fetch_instruments(),
}


def refusal(code: int, text: str) -> dict[str, Any]:
    return {"code": code, "msg": text}


def error_of(ask: Ask, exchange: Gateway) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        ask(exchange)
    return caught.value


# -- what is sent --------------------------------------------------------------------------------------------------


def test_place__sends_the_documented_parameters_as_given(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.placed()))
    exchange.place(order_request(quantity=Decimal("3E-3")))
    (request,) = server.received
    signature = request.parameters["signature"]
    assert (request.method, request.path) == ("POST", "/api/v3/order")
    assert request.parameters == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.003",
        "price": "60000.1",
        "newClientOrderId": binance.CLIENT_ORDER_ID,
        "newOrderRespType": "FULL",
        "recvWindow": "4321",
        "timestamp": "1770000000000",
        "signature": signature,
    }
    assert request.headers["x-mbx-apikey"] == API_KEY
    assert signature == hmac.new(API_SECRET.encode(), request.signed_text.encode(), hashlib.sha256).hexdigest()


def test_place__needs_no_clock_and_no_markets(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.placed()))
    place(exchange)
    assert (server.time_requests, len(server.received)) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order_type": OrderType.MARKET, "price": None, "time_in_force": None}, {"quantity": "0.003"}),
        (
            {"order_type": OrderType.MARKET, "price": None, "quantity": None, "quote_quantity": Decimal("1E+2")},
            {"timeInForce": "GTC", "quoteOrderQty": "100"},
        ),
        (
            {"order_type": OrderType.MARKET, "time_in_force": None},
            {"quantity": "0.003", "price": "60000.1"},
        ),
        (
            {"order_type": OrderType.STOP_LOSS_LIMIT, "stop_price": Decimal("59000.50"), "time_in_force": None},
            {"quantity": "0.003", "price": "60000.1", "stopPrice": "59000.5", "timeInForce": "GTC"},
        ),
        (
            {"order_type": OrderType.LIMIT_MAKER, "time_in_force": None},
            {"quantity": "0.003", "price": "60000.1"},
        ),
    ],
)
def test_place__a_figure_is_sent_under_its_own_name_or_not_at_all(
    server: RawServer, exchange: Gateway, changes: dict[str, Any], expected: dict[str, str]
) -> None:
    server.then(answer(200, binance.placed()))
    exchange.place(order_request(**changes))
    figures = {"timeInForce", "quantity", "quoteOrderQty", "price", "stopPrice"}
    assert {name: text for name, text in server.received[0].parameters.items() if name in figures} == expected


@pytest.mark.parametrize(
    ("ask", "method", "path", "expected"),
    [
        (
            cancel,
            "DELETE",
            "order",
            {"symbol": "BTCUSDT", "origClientOrderId": binance.CLIENT_ORDER_ID},
        ),
        (
            lambda exchange: exchange.cancel(symbol="BTCUSDT", exchange_order_id="28"),
            "DELETE",
            "order",
            {"symbol": "BTCUSDT", "orderId": "28"},
        ),
        (read, "GET", "order", {"symbol": "BTCUSDT", "origClientOrderId": binance.CLIENT_ORDER_ID}),
        (
            lambda exchange: exchange.fetch_order(symbol="BTCUSDT", exchange_order_id="28"),
            "GET",
            "order",
            {"symbol": "BTCUSDT", "orderId": "28"},
        ),
        (lambda exchange: exchange.fetch_open_orders("BTCUSDT"), "GET", "openOrders", {"symbol": "BTCUSDT"}),
        (lambda exchange: exchange.fetch_open_orders(), "GET", "openOrders", {}),
        (
            lambda exchange: exchange.fetch_all_orders(symbol="BTCUSDT", start_ms=1, end_ms=2, limit=7),
            "GET",
            "allOrders",
            {"symbol": "BTCUSDT", "startTime": "1", "endTime": "2", "limit": "7"},
        ),
        (
            lambda exchange: exchange.fetch_all_orders(symbol="BTCUSDT", from_order_id="28"),
            "GET",
            "allOrders",
            {"symbol": "BTCUSDT", "orderId": "28", "limit": "1000"},
        ),
        (
            lambda exchange: exchange.fetch_trades(symbol="BTCUSDT", exchange_order_id="28", from_trade_id="5"),
            "GET",
            "myTrades",
            {"symbol": "BTCUSDT", "orderId": "28", "fromId": "5", "limit": "1000"},
        ),
        (lambda exchange: exchange.fetch_account(), "GET", "account", {"omitZeroBalances": "true"}),
    ],
)
def test_calls__send_the_documented_parameters_signed_with_the_exchanges_time(
    server: RawServer,
    exchange: Gateway,
    settings: Settings,
    ask: Ask,
    method: str,
    path: str,
    expected: dict[str, str],
) -> None:
    settings.EXCHANGE_RECV_WINDOW_MS = 2345
    server.clock_offset_ms = 3_600_000
    server.then(answer(400, refusal(-1121, "Invalid symbol.")))
    error_of(ask, exchange)
    (request,) = server.received
    sent = request.parameters
    signature = sent.pop("signature")
    assert abs(int(sent.pop("timestamp")) - clock.now_ms() - 3_600_000) < 2000
    assert sent.pop("recvWindow") == "2345"
    assert (request.method, request.path, sent) == (method, f"/api/v3/{path}", expected)
    assert signature == hmac.new(API_SECRET.encode(), request.signed_text.encode(), hashlib.sha256).hexdigest()


def test_fetch_instruments__asks_for_these_symbols_without_a_key(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.exchange_info()))
    exchange.fetch_instruments(["BTCUSDT", "币安人生USDT"])
    (request,) = server.received
    assert request.parameters == {"symbols": '["BTCUSDT","币安人生USDT"]', "showPermissionSets": "false"}
    assert "x-mbx-apikey" not in request.headers


def test_cancel__needs_an_id(exchange: Gateway) -> None:
    with pytest.raises(TypeError):
        exchange.cancel(symbol="BTCUSDT")


# -- what comes back -----------------------------------------------------------------------------------------------


def test_place__reports_the_order_and_its_fills(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.placed()))
    report = place(exchange)
    at = datetime(2026, 2, 2, 2, 40, 0, 123_000, tzinfo=UTC)
    assert (report.source, report.status, report.exchange_order_id) == (ReportSource.PLACE, "FILLED", "28")
    assert (report.quantity, report.price) == (Decimal("0.003"), Decimal("60000.1"))
    assert (report.filled_quantity, report.filled_quote_quantity) == (Decimal("0.003"), Decimal("179.9997"))
    assert (report.updated_at, report.created_at) == (at, at)
    assert (report.quote_quantity, report.stop_price, report.reason) == (None, None, "")
    assert [(fill.trade_id, fill.quantity, fill.price, fill.quote_quantity) for fill in report.fills] == [
        ("56", Decimal("0.001"), Decimal("60000.1"), Decimal("60.0001")),
        ("57", Decimal("0.002"), Decimal("59999.8"), Decimal("119.9996")),
    ]
    first = report.fills[0]
    assert (first.commission, first.commission_asset, first.is_maker) == (Decimal("0.000003"), "BTC", False)
    assert (first.client_order_id, first.exchange_order_id, first.traded_at) == (binance.CLIENT_ORDER_ID, "28", at)


def test_place__a_fills_notional_is_rounded_down_as_the_exchange_does(server: RawServer, exchange: Gateway) -> None:
    fills = [binance.fill(price="0.03456789", qty="0.12340000")]
    server.then(answer(200, binance.placed(fills=fills)))
    assert place(exchange).fills[0].quote_quantity == Decimal("0.00426567")


def test_cancel__reports_the_orders_own_id(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.cancelled()))
    report = cancel(exchange)
    assert (report.source, report.status, report.client_order_id) == (
        ReportSource.CANCEL,
        "CANCELED",
        binance.CLIENT_ORDER_ID,
    )


def test_fetch_order__keeps_the_exchanges_words(server: RawServer, exchange: Gateway) -> None:
    changes = {"status": "SOMETHING_NEW", "expiryReason": "EXECUTION_RULE_PRICE_RANGE_EXCEEDED", "type": "WHATEVER"}
    row = binance.queried(**changes, stopPrice="59000.50000000", origQuoteOrderQty="12.5", cummulativeQuoteQty="-1.0")
    server.then(answer(200, row))
    report = read(exchange)
    assert (report.status, report.reason, report.order_type) == tuple(changes.values())
    assert (report.stop_price, report.quote_quantity) == (Decimal("59000.5"), Decimal("12.5"))
    assert report.filled_quote_quantity is None
    assert report.raw == row
    assert report.created_at == datetime(2026, 2, 2, 2, 40, 0, 123_000, tzinfo=UTC)
    assert report.updated_at == datetime(2026, 2, 2, 2, 40, 1, tzinfo=UTC)


def test_fetch_order__a_figure_passes_through_no_float(server: RawServer, exchange: Gateway) -> None:
    body = json.dumps(binance.queried(price="12345678901234567890.123456789"))
    server.then(answer(200, body.replace('"12345678901234567890.123456789"', "12345678901234567890.123456789")))
    assert read(exchange).price == Decimal("12345678901234567890.123456789")


def test_fetch_order__no_reason_is_no_reason(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.queried(expiryReason="NONE")))
    assert read(exchange).reason == ""


def test_fetch_orders__say_which_list_they_are_from(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, [binance.queried(), binance.queried(symbol="ETHUSDT", orderId=3)]))
    assert [(row.source, row.symbol) for row in exchange.fetch_open_orders()] == [
        (ReportSource.OPEN_ORDERS, "BTCUSDT"),
        (ReportSource.OPEN_ORDERS, "ETHUSDT"),
    ]
    server.then(answer(200, []))
    assert exchange.fetch_all_orders(symbol="BTCUSDT") == []


def test_fetch_trades__gives_fills_without_a_client_id(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, [binance.trade(isBuyer=False, isMaker=True, commission="-0.01", commissionAsset="BNB")]))
    (fill,) = exchange.fetch_trades(symbol="BTCUSDT", exchange_order_id="28")
    assert (fill.trade_id, fill.side, fill.is_maker, fill.client_order_id) == ("56", Side.SELL, True, None)
    assert (fill.commission, fill.commission_asset) == (Decimal("-0.01"), "BNB")
    assert fill.quote_quantity == Decimal("60.0001")


def test_fetch_account__gives_balances(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.account(canTrade=False)))
    report = exchange.fetch_account()
    assert not report.can_trade
    assert [(row.asset, row.free, row.locked) for row in report.balances] == [
        ("BTC", Decimal("0.1"), Decimal(0)),
        ("USDT", Decimal("1000.00000001"), Decimal("12.5")),
    ]


def test_fetch_instruments__gives_rules(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.exchange_info(status="HALT")))
    (rules,) = exchange.fetch_instruments()
    assert (rules.symbol, rules.is_trading, rules.figure("PRICE_FILTER", "tickSize")) == (
        "BTCUSDT",
        False,
        Decimal("0.01"),
    )


# -- what goes wrong -----------------------------------------------------------------------------------------------

UNKNOWN = (OutcomeUnknown, OutcomeUnknown, OutcomeUnknown)
UNSENT = (NotSent, NotSent, NotSent)
REFUSED = (OrderRejected, OrderRejected, OrderRejected)
ACCOUNT = (AccountError, AccountError, AccountError)
HTML = "<html><body>Request blocked. signature=0123abcd</body></html>"

ANSWERS: dict[str, tuple[Behaviour, tuple[type[GatewayError], ...]]] = {
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
    "503 -1000": (answer(503, refusal(-1000, "Unknown error, please check your request or try again later.")), UNKNOWN),
    "503 without code": (answer(503, {"msg": "Service Unavailable."}), UNKNOWN),
    "503 -1008": (answer(503, refusal(-1008, "Server is currently overloaded with other requests.")), UNKNOWN),
    "500 -2010": (answer(500, refusal(-2010, "Account has insufficient balance for requested action.")), UNKNOWN),
    "500 -2013": (answer(500, refusal(-2013, "Order does not exist.")), UNKNOWN),
    "400 -1007": (answer(400, refusal(-1007, "Timeout waiting for response from backend server.")), UNKNOWN),
    "408 -1007": (answer(408, refusal(-1007, "Timeout waiting for response from backend server.")), UNKNOWN),
    "504 -1007": (answer(504, refusal(-1007, "Timeout waiting for response from backend server.")), UNKNOWN),
    "400 -1006": (answer(400, refusal(-1006, "An unexpected response was received.")), UNKNOWN),
    "400 unknown code": (answer(400, refusal(-7777, "Something new.")), UNKNOWN),
    "400 code as text": (answer(400, {"code": "-2010", "msg": "Market is closed."}), UNKNOWN),
    "400 without code": (answer(400, {"msg": "Bad Request"}), UNKNOWN),
    "400 html": (answer(400, HTML), UNKNOWN),
    "404 html": (answer(404, HTML), UNKNOWN),
    # limits
    "429": (answer(429, refusal(-1003, "Too much request weight used."), headers={"Retry-After": "7"}), UNSENT),
    "429 -1015": (answer(429, refusal(-1015, "Too many new orders.")), UNSENT),
    "418 html": (answer(418, HTML, headers={"Retry-After": "120"}), UNSENT),
    "403 html": (answer(403, HTML), UNSENT),
    "400 -1003": (answer(400, refusal(-1003, "Too many requests queued.")), UNSENT),
    "400 -1021": (answer(400, refusal(-1021, "Timestamp for this request is outside of the recvWindow.")), UNSENT),
    # key and account
    "401 -2015": (answer(401, refusal(-2015, "Invalid API-key, IP, or permissions for action.")), ACCOUNT),
    "400 -2014": (answer(400, refusal(-2014, "API-key format invalid.")), ACCOUNT),
    "400 -1022": (answer(400, refusal(-1022, "Signature for this request is not valid.")), ACCOUNT),
    "400 -1002": (answer(400, refusal(-1002, "You are not authorized to execute this request.")), ACCOUNT),
    "451 html": (answer(451, HTML), ACCOUNT),
    "account disabled": (answer(400, refusal(-2010, "This action is disabled on this account.")), ACCOUNT),
    # refusals
    "400 -1013": (answer(400, refusal(-1013, "Filter failure: NOTIONAL")), REFUSED),
    "400 -1121": (answer(400, refusal(-1121, "Invalid symbol.")), REFUSED),
    "400 -1102": (answer(400, refusal(-1102, "Mandatory parameter 'price' was not sent.")), REFUSED),
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


@pytest.mark.parametrize("name", ["FIN before the answer", "200 empty", "200 null", "200 {}", "200 html", "502 empty"])
@pytest.mark.parametrize("ask", OTHER_READS.values(), ids=OTHER_READS)
def test_reads__a_failed_question_is_no_answer(server: RawServer, exchange: Gateway, ask: Ask, name: str) -> None:
    server.then(ANSWERS[name][0])
    assert type(error_of(ask, exchange)) is OutcomeUnknown


@pytest.mark.parametrize(
    "body",
    [{"orders": []}, [7], [None], [[]], [binance.queried(), {}], "x"],
)
@pytest.mark.parametrize("ask", list(OTHER_READS.values())[:3], ids=list(OTHER_READS)[:3])
def test_lists__one_bad_row_makes_the_list_no_answer(server: RawServer, exchange: Gateway, ask: Ask, body: Any) -> None:
    server.then(answer(200, body))
    assert type(error_of(ask, exchange)) is OutcomeUnknown


BAD_FIELDS: list[dict[str, Any]] = [
    {"origQty": 1},
    {"origQty": "NaN"},
    {"origQty": "Infinity"},
    {"origQty": "1e-3"},
    {"origQty": "-0.003"},
    {"origQty": ""},
    {"origQty": "0,003"},
    {"origQty": "٣"},
    {"origQty": None},
    {"executedQty": "-1"},
    {"price": None},
    {"cummulativeQuoteQty": None},
    {"status": ""},
    {"status": None},
    {"status": 7},
    {"side": "HOLD"},
    {"orderId": "28"},
    {"orderId": None},
    {"orderId": True},
    {"clientOrderId": None, "origClientOrderId": None},
    {"symbol": None},
    {"transactTime": "soon", "updateTime": "soon"},
    {"transactTime": 10**18, "updateTime": 10**18},
    {"transactTime": None, "updateTime": None},
]
OTHER_ORDER: list[dict[str, Any]] = [
    {"symbol": "ETHUSDT"},
    {"clientOrderId": "bo-other-1", "origClientOrderId": "bo-other-1"},
]


@pytest.mark.parametrize("changes", BAD_FIELDS + OTHER_ORDER, ids=str)
def test_calls__a_malformed_or_foreign_order_is_no_answer(
    server: RawServer, exchange: Gateway, changes: dict[str, Any]
) -> None:
    for ask, row in ((place, binance.placed()), (cancel, binance.cancelled()), (read, binance.queried())):
        server.then(answer(200, {**row, **{name: value for name, value in changes.items() if name in row}}))
        assert type(error_of(ask, exchange)) is OutcomeUnknown


@pytest.mark.parametrize(
    "changes",
    [
        {"fills": None},
        {"fills": {}},
        {"fills": [binance.fill(qty=1)]},
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


@pytest.mark.parametrize("ask", ["cancel", "fetch_order"])
def test_calls_by_exchange_id__another_order_is_no_answer(server: RawServer, exchange: Gateway, ask: str) -> None:
    server.then(answer(200, {**binance.cancelled(orderId=29), **binance.queried(orderId=29)}))
    with pytest.raises(OutcomeUnknown, match="order id"):
        getattr(exchange, ask)(symbol="BTCUSDT", exchange_order_id="28")


def test_lists__a_row_of_another_symbol_or_order_is_no_answer(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, [binance.queried(symbol="ETHUSDT")]))
    assert type(error_of(lambda gate: gate.fetch_open_orders("BTCUSDT"), exchange)) is OutcomeUnknown
    server.then(answer(200, [binance.trade(orderId=29)]))
    assert type(error_of(lambda gate: gate.fetch_trades(symbol="BTCUSDT", exchange_order_id="28"), exchange)) is (
        OutcomeUnknown
    )


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        (binance.account(canTrade="true"), "account"),
        (binance.account(balances=None), "account"),
        (binance.account(balances=[{"asset": "BTC", "free": "1.0"}]), "account"),
        (binance.exchange_info(symbol=None), "instruments"),
        (binance.exchange_info(filters=[{}]), "instruments"),
        (binance.exchange_info(quoteAssetPrecision="many"), "instruments"),
        ({"symbols": {}}, "instruments"),
        ([binance.trade(isBuyer=1)], "trades"),
        ([binance.trade(quoteQty=None)], "trades"),
    ],
)
def test_reads__malformed_rows_are_no_answer(server: RawServer, exchange: Gateway, body: Any, ask: str) -> None:
    server.then(answer(200, body))
    assert type(error_of(OTHER_READS[ask], exchange)) is OutcomeUnknown


@pytest.mark.parametrize("call", CALLS)
def test_calls__without_a_connection_nothing_is_sent(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for host in (f"127.0.0.1:{closed_port()}", "no-such-host.invalid"):
        monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", f"http://{host}")
        error = error_of(CALLS[call], Gateway(account, read_credentials(account)))
        assert type(error) is NotSent
        assert "no connection to the exchange" in error.message


def test_calls__a_connection_that_does_not_come_about_is_not_sent(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.EXCHANGE_REQUEST_TIMEOUT_MS = 30_000
    monkeypatch.setattr(wire, "CONNECT_TIMEOUT_SECONDS", 0.2)
    with unanswering_port() as port:
        monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", f"http://127.0.0.1:{port}")
        assert type(error_of(place, Gateway(account, read_credentials(account)))) is NotSent


def test_calls__to_a_host_with_a_false_certificate_nothing_is_sent(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = RawServer([answer(200, binance.placed())], tls=self_signed(tmp_path))
    try:
        monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", server.url)
        error = error_of(place, Gateway(account, read_credentials(account)))
        assert type(error) is NotSent
        assert "SSLCertVerificationError" in error.message
        assert server.received == []
    finally:
        server.stop()


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    path.write_text(pem(key) + certificate.public_bytes(serialization.Encoding.PEM).decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("inf", None),
        ("1e9", None),
    ],
)
@pytest.mark.parametrize("status", [429, 418, 403])
def test_calls__retry_after_is_read_where_there_is_one(
    server: RawServer, exchange: Gateway, status: int, header: str | None, seconds: float | None
) -> None:
    server.then(answer(status, refusal(-1003, "Too many."), headers={} if header is None else {"Retry-After": header}))
    error = error_of(place, exchange)
    assert isinstance(error, NotSent)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-2010, "Account has insufficient balance for requested action."),
        (-1022, "Signature for this request is not valid."),
    ],
)
def test_calls__the_exchanges_words_arrive(server: RawServer, exchange: Gateway, code: int, text: str) -> None:
    server.then(answer(400, refusal(code, text)))
    error = error_of(place, exchange)
    assert (error.code, error.http_status, error.message) == (code, 400, text)


def test_calls__a_refused_key_is_an_account_error_after_earlier_success_too(
    server: RawServer, exchange: Gateway
) -> None:
    refused = answer(400, refusal(-2015, "Invalid API-key, IP, or permissions for action."))
    server.then(answer(200, binance.placed()), refused)
    place(exchange)
    error = error_of(place, exchange)
    assert isinstance(error, AccountError)
    assert error.message == "Invalid API-key, IP, or permissions for action."


def test_calls__go_past_the_proxies_of_the_environment(
    server: RawServer, exchange: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    server.then(answer(200, binance.placed()))
    assert place(exchange).status == "FILLED"


# -- secrets -------------------------------------------------------------------------------------------------------


def assert_no_secret_in(error: GatewayError, caplog: pytest.LogCaptureFixture, server: RawServer) -> None:
    texts = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    texts += [str(vars(record)) for record in caplog.records]
    assert error.__cause__ is None
    assert error.__context__ is None
    forbidden = [API_KEY, API_SECRET]
    forbidden += [value for request in server.received if (value := request.parameters.get("signature"))]
    for text in texts:
        assert not [secret for secret in forbidden if secret in text]


def test_calls__a_secret_that_the_exchange_repeats_is_taken_out(
    server: RawServer, exchange: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = f"bad request: apiKey={API_KEY}&signature=deadbeef01&secret={API_SECRET}\x00\n"
    server.then(answer(400, refusal(-1102, text)))
    error = error_of(place, exchange)
    assert error.message == "bad request: apiKey=***&signature=***&secret=***"
    assert_no_secret_in(error, caplog, server)


def test_gateway__shows_no_secret(exchange: Gateway, account: ExchangeAccount) -> None:
    shown = f"{exchange!r} {read_credentials(account)!r}"
    assert API_KEY not in shown
    assert API_SECRET not in shown
    assert server_url_in(shown)


def server_url_in(text: str) -> bool:
    return re.search(r"http://127\.0\.0\.1:\d+", text) is not None


def test_calls__are_logged_and_counted(
    server: RawServer, exchange: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(limits, "note", lambda *_, counter, **__: counted.append(counter))
    caplog.set_level(logging.INFO)
    server.then(answer(200, binance.placed()), answer(400, refusal(-1013, "Filter failure: LOT_SIZE")))
    place(exchange)
    error_of(place, exchange)
    assert counted == [
        metrics.counter("exchange_calls", account="bot-1", call="place", outcome="ok"),
        metrics.counter("exchange_calls", account="bot-1", call="place", outcome="OrderRejected"),
    ]
    lines = [record.msg for record in caplog.records if record.name == "exchanges.gateway"]
    assert [
        {name: line[name] for name in ("event", "call", "outcome", "code", "http_status", "client_order_id")}
        for line in lines
        if isinstance(line, dict)
    ] == [
        {
            "event": "exchange_call",
            "call": "place",
            "outcome": outcome,
            "code": code,
            "http_status": status,
            "client_order_id": binance.CLIENT_ORDER_ID,
        }
        for outcome, code, status in (("ok", None, 200), ("OrderRejected", -1013, 400))
    ]


# -- keys ----------------------------------------------------------------------------------------------------------


def pem(key: Any, *, kind: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> str:
    encoded: bytes = key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    return encoded.decode()


def as_it_is(text: str) -> str:
    return text


def with_crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


def on_one_line(text: str) -> str:
    return text.strip().replace("\n", "\\n")


@pytest.mark.parametrize("written", [as_it_is, with_crlf, on_one_line])
@pytest.mark.parametrize("ask", [place, read], ids=["body", "query"])
def test_calls__are_signed_by_an_ed25519_key(
    server: RawServer,
    account: ExchangeAccount,
    monkeypatch: pytest.MonkeyPatch,
    written: Callable[[str], str],
    ask: Ask,
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    monkeypatch.setenv("EXCHANGE_BOT_1_API_SECRET", written(pem(key)))
    server.then(answer(400, refusal(-1121, "Invalid symbol.")))
    error_of(ask, Gateway(account, read_credentials(account)))
    (request,) = server.received
    key.public_key().verify(b64decode(request.parameters["signature"]), request.signed_text.encode())


@pytest.mark.parametrize("kind", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_calls__are_signed_by_an_rsa_key_from_a_file(
    server: RawServer,
    account: ExchangeAccount,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: serialization.PrivateFormat,
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path / "key.pem"
    path.write_text(with_crlf(pem(key, kind=kind)))
    monkeypatch.delenv("EXCHANGE_BOT_1_API_SECRET")
    monkeypatch.setenv("EXCHANGE_BOT_1_API_SECRET_FILE", str(path))
    server.then(answer(400, refusal(-1121, "Invalid symbol.")))
    error_of(place, Gateway(account, read_credentials(account)))
    (request,) = server.received
    signature = b64decode(request.parameters["signature"])
    key.public_key().verify(signature, request.signed_text.encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"API_KEY": ""}, "EXCHANGE_BOT_1_API_KEY"),
        ({"API_SECRET": ""}, "EXCHANGE_BOT_1_API_SECRET"),
        ({"API_SECRET": "", "API_SECRET_FILE": "no-such-file"}, "EXCHANGE_BOT_1_API_SECRET_FILE"),
        ({"API_SECRET": "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----"}, "EXCHANGE_BOT_1_API_SECRET"),
        ({"API_SECRET": pem(ec.generate_private_key(ec.SECP256R1()))}, "EXCHANGE_BOT_1_API_SECRET"),
        ({"API_KEY": "ключ"}, "EXCHANGE_BOT_1_API_KEY"),
        ({"REST_URL": ""}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "127.0.0.1:9080"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "http://127.0.0.1:9080/api/v3"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "http://user:word@127.0.0.1:9080"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "http://127.0.0.1:port"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"WS_URL": "http://127.0.0.1:9080"}, "EXCHANGE_BOT_1_WS_URL"),
    ],
)
def test_get_gateway__names_the_variable_that_is_wrong(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"EXCHANGE_BOT_1_{name}", value)
    with pytest.raises(AccountError, match=named) as caught:
        get_gateway(account)
    for value in environment.values():
        assert not value.startswith("-----") or value not in str(caught.value)


def test_read_hosts__are_binances_own_without_variables() -> None:
    live = read_hosts(ExchangeAccount(name="desk", environment="live"))
    testnet = read_hosts(ExchangeAccount(name="desk", environment="testnet"))
    assert (live.rest_url, testnet.rest_url) == ("https://api.binance.com", "https://testnet.binance.vision")
    assert live.ws_url.startswith("wss://ws-api.binance.com")
    assert testnet.ws_url.startswith("wss://ws-api.testnet.binance.vision")


# -- one gateway per thread ----------------------------------------------------------------------------------------


def test_get_gateway__keeps_one_connection_per_thread(server: RawServer, account: ExchangeAccount) -> None:
    server.then(answer(200, binance.placed()))
    found: list[Gateway] = []

    def work() -> None:
        for _ in range(5):
            found.append(get_gateway(account))
            place(found[-1])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(found), len({id(item) for item in found})) == (10, 2)
    assert len({request.connection for request in server.received}) == 2


def test_get_gateway__follows_the_environment(account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get_gateway(account)
    assert get_gateway(account) is first
    monkeypatch.setenv("EXCHANGE_BOT_1_API_KEY", "another")
    assert get_gateway(account) is not first


def test_get_gateway__a_fork_has_its_own(server: RawServer, account: ExchangeAccount) -> None:
    server.then(answer(200, binance.placed()))
    parent = get_gateway(account)
    place(parent)
    child = os.fork()
    if child == 0:  # no assert here: a failing child must end, not go on as a second pytest
        fresh = get_gateway(account)
        place(fresh)
        os._exit(0 if fresh is not parent else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    place(parent)
    assert [request.connection for request in server.received] == [1, 2, 1]


def test_install__replaces_it_for_every_thread(account: ExchangeAccount, exchange: Gateway) -> None:
    asked: list[str] = []

    def factory(asking: Account) -> Gateway:
        asked.append(asking.name)
        return exchange

    with gateway.install(factory):
        assert get_gateway(account) is exchange
        thread = threading.Thread(target=lambda: asked.append(str(get_gateway(account) is exchange)))
        thread.start()
        thread.join(5)
    assert asked == ["bot-1", "bot-1", "True"]
    assert get_gateway(account) is not exchange


# -- the exchange's time -------------------------------------------------------------------------------------------


class Clock:
    """Our clock, in the test's hand."""

    def __init__(self) -> None:
        self.wall_ms = 1_770_000_000_000.0
        self.monotonic = 1000.0

    def advance(self, seconds: float) -> None:
        self.wall_ms += seconds * 1000
        self.monotonic += seconds


@pytest.fixture
def our_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(clock, "now_ms", lambda: int(ours.wall_ms))
    monkeypatch.setattr(clock, "monotonic", lambda: ours.monotonic)
    return ours


def test_server_clock__takes_the_middle_of_the_round_trip(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()

    def ask() -> int:
        our_clock.advance(0.4)
        return 1_770_000_005_200

    assert estimate.now_ms(ask) == 1_770_000_005_400
    our_clock.advance(10)
    assert estimate.now_ms(ask) == 1_770_000_015_400


def test_server_clock__is_measured_when_it_must_be(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()
    asked: list[float] = []

    def ask() -> int:
        asked.append(our_clock.monotonic)
        return int(our_clock.wall_ms) + 700

    def measurements_of(change: Callable[[], None]) -> int:
        before = len(asked)
        change()
        assert estimate.now_ms(ask) == int(our_clock.wall_ms) + 700
        return len(asked) - before

    def step(milliseconds: float) -> None:
        our_clock.wall_ms += milliseconds

    assert measurements_of(lambda: None) == 1
    assert measurements_of(lambda: our_clock.advance(59)) == 0
    assert measurements_of(lambda: our_clock.advance(2)) == 1
    assert measurements_of(lambda: step(3000)) == 1
    assert measurements_of(lambda: step(-3000)) == 1
    assert measurements_of(estimate.forget) == 1
    assert measurements_of(lambda: None) == 0


def test_server_clock__a_pause_of_this_process_is_no_clock_step(
    our_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = server_clock.ServerClock()
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return int(our_clock.wall_ms)

    def now_ms_and_a_pause() -> int:
        reading = int(our_clock.wall_ms)
        if len(pauses) < 3:  # the scheduler takes the processor away before the other clock is read
            pauses.append(1)
            our_clock.advance(0.2)
        return reading

    estimate.now_ms(ask)
    pauses: list[int] = []
    monkeypatch.setattr(clock, "now_ms", now_ms_and_a_pause)
    estimate.now_ms(ask)
    assert (len(asked), len(pauses)) == (1, 3)


def test_server_clock__an_old_offset_serves_while_the_exchange_does_not_answer(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()
    estimate.now_ms(lambda: int(our_clock.wall_ms) + 700)

    def fails() -> int:
        raise OutcomeUnknown("no answer")

    our_clock.advance(599)
    assert estimate.now_ms(fails) == int(our_clock.wall_ms) + 700
    our_clock.advance(2)
    with pytest.raises(NotSent, match="no answer"):
        estimate.now_ms(fails)


@pytest.mark.parametrize("distrusted", ["forgotten", "stepped"])
def test_server_clock__a_distrusted_offset_does_not_serve(our_clock: Clock, distrusted: str) -> None:
    estimate = server_clock.ServerClock()
    estimate.now_ms(lambda: int(our_clock.wall_ms))

    def fails() -> int:
        raise NotSent("no connection", retry_after=3.0)

    if distrusted == "forgotten":
        estimate.forget()
    else:
        our_clock.wall_ms += 51
    with pytest.raises(NotSent, match="no connection"):
        estimate.now_ms(fails)


def test_server_clock__a_measurement_across_a_clock_step_is_not_kept(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()

    def ask() -> int:
        our_clock.wall_ms += 5000
        return 1_770_000_000_000

    with pytest.raises(NotSent):
        estimate.now_ms(ask)


def test_now_ms__is_measured_once_for_all_threads_of_a_host(server: RawServer, account: ExchangeAccount) -> None:
    server.clock_offset_ms = -7000
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(get_gateway(account).now_ms())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(found), server.time_requests) == (4, 1)
    assert all(abs(now_ms + 7000 - clock.now_ms()) < 2000 for now_ms in found)


def test_server_time_ms__asks_every_time(server: RawServer, exchange: Gateway) -> None:
    exchange.server_time_ms()
    exchange.server_time_ms()
    assert server.time_requests == 2


@pytest.mark.parametrize("behaviour", [close, answer(503), answer(200, {}), answer(200, {"serverTime": "soon"})])
def test_calls__without_the_exchanges_time_nothing_is_sent(
    server: RawServer, exchange: Gateway, behaviour: Behaviour
) -> None:
    server.time_behaviour = behaviour
    server.then(answer(200, binance.cancelled()))
    for ask in (cancel, read):
        assert type(error_of(ask, exchange)) is NotSent
    assert server.received == []


STALE = answer(400, refusal(-1021, "Timestamp for this request was 1000ms ahead of the server's time."))


def test_reads__a_refused_timestamp_is_measured_anew_and_asked_once_more(server: RawServer, exchange: Gateway) -> None:
    exchange.now_ms()
    server.clock_offset_ms = 90_000
    server.then(STALE, answer(200, binance.queried()))
    assert read(exchange).exchange_order_id == "28"
    stamps = [int(request.parameters["timestamp"]) for request in server.received]
    assert 89_000 < stamps[1] - stamps[0] < 95_000
    server.then(STALE)
    assert type(error_of(read, exchange)) is NotSent
    assert len(server.received) == 4


@pytest.mark.parametrize("call", ["place", "cancel"])
def test_place_and_cancel__a_refused_timestamp_is_not_retried_but_measured_anew(
    server: RawServer, exchange: Gateway, call: str
) -> None:
    exchange.now_ms()
    server.then(STALE)
    error = error_of(CALLS[call], exchange)
    assert (type(error), error.code, len(server.received)) == (NotSent, -1021, 1)
    exchange.now_ms()
    assert server.time_requests == 2
