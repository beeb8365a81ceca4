"""Check the parameters that the gateway sends."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.types import OrderType
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    API_KEY,
    API_SECRET,
    Ask,
    cancel,
    error_of,
    order_request,
    place,
    read,
    refusal,
)
from tests.exchanges.binance.raw_server import (
    RawServer,
    answer,
)

pytestmark = pytest.mark.usefixtures("without_limits")


def test_place__sends_the_documented_parameters_as_given(
    server: RawServer, exchange: Gateway
) -> None:
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
    assert (
        signature
        == hmac.new(API_SECRET.encode(), request.signed_text.encode(), hashlib.sha256).hexdigest()
    )


def test_place__needs_no_clock_and_no_markets(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.placed()))
    place(exchange)
    assert (server.time_requests, len(server.received)) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"order_type": OrderType.MARKET, "price": None, "time_in_force": None},
            {"quantity": "0.003"},
        ),
        (
            {
                "order_type": OrderType.MARKET,
                "price": None,
                "quantity": None,
                "quote_quantity": Decimal("1E+2"),
            },
            {"timeInForce": "GTC", "quoteOrderQty": "100"},
        ),
        (
            {"order_type": OrderType.MARKET, "time_in_force": None},
            {"quantity": "0.003", "price": "60000.1"},
        ),
        (
            {
                "order_type": OrderType.STOP_LOSS_LIMIT,
                "stop_price": Decimal("59000.50"),
                "time_in_force": None,
            },
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
    assert {
        name: text for name, text in server.received[0].parameters.items() if name in figures
    } == expected


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
        (
            lambda exchange: exchange.fetch_open_orders("BTCUSDT"),
            "GET",
            "openOrders",
            {"symbol": "BTCUSDT"},
        ),
        (lambda exchange: exchange.fetch_open_orders(), "GET", "openOrders", {}),
        (
            lambda exchange: exchange.fetch_all_orders(
                symbol="BTCUSDT", start_ms=1, end_ms=2, limit=7
            ),
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
            lambda exchange: exchange.fetch_trades(
                symbol="BTCUSDT", exchange_order_id="28", from_trade_id="5"
            ),
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
    assert (
        signature
        == hmac.new(API_SECRET.encode(), request.signed_text.encode(), hashlib.sha256).hexdigest()
    )


def test_fetch_instruments__asks_for_these_symbols_without_a_key(
    server: RawServer, exchange: Gateway
) -> None:
    server.then(answer(200, binance.exchange_info()))
    exchange.fetch_instruments(["BTCUSDT", "币安人生USDT"])
    (request,) = server.received
    assert request.parameters == {
        "symbols": '["BTCUSDT","币安人生USDT"]',
        "showPermissionSets": "false",
    }
    assert "x-mbx-apikey" not in request.headers


def test_fetch_bids_and_asks__asks_for_these_symbols_or_for_all(
    server: RawServer, exchange: Gateway
) -> None:
    server.then(answer(200, []), answer(200, []))
    assert exchange.fetch_bids_and_asks(["BTCUSDT", "币安人生USDT"]) == {}
    assert exchange.fetch_bids_and_asks() == {}
    named, every = server.received
    assert named.path == every.path == "/api/v3/ticker/bookTicker"
    assert named.parameters == {"symbols": '["BTCUSDT","币安人生USDT"]'}
    assert every.parameters == {}
    assert "x-mbx-apikey" not in named.headers


def test_cancel__needs_an_id(exchange: Gateway) -> None:
    with pytest.raises(TypeError):
        exchange.cancel(symbol="BTCUSDT")
