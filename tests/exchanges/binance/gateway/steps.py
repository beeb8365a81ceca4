"""Calls of the gateway that many tests make, and the error they end with."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from exchanges.binance.gateway import Gateway
from exchanges.errors import (
    GatewayError,
)
from exchanges.types import OrderRequest, OrderType, Side, TimeInForce
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.raw_server import (
    RawServer,
)

API_KEY = "SENTINEL-KEY-b1946ac92492d2347c6235b4d2611184"
API_SECRET = "SENTINEL-SECRET-591785b794601e212b260e25925636fd"

Ask = Callable[[Gateway], Any]


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


def assert_no_secret_in(
    error: GatewayError, caplog: pytest.LogCaptureFixture, server: RawServer
) -> None:
    texts = [
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        *traceback.format_exception(error),
    ]
    texts += [str(vars(record)) for record in caplog.records]
    assert error.__cause__ is None
    assert error.__context__ is None
    forbidden = [API_KEY, API_SECRET]
    forbidden += [
        value for request in server.received if (value := request.parameters.get("signature"))
    ]
    for text in texts:
        assert not [secret for secret in forbidden if secret in text]


def pem(key: Any, *, kind: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> str:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, kind, serialization.NoEncryption()
    )
    return encoded.decode()
