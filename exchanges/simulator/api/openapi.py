"""Describe the REST API as an OpenAPI 3.1 document, made from the operations that it serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exchanges.simulator import errors
from exchanges.simulator.api import candles
from exchanges.simulator.api.answers import (
    ANSWERS,
    BOOLEAN,
    INTEGER,
    SCHEMAS,
    TEXT,
    Schema,
    ref,
    words,
)
from exchanges.simulator.api.endpoints.market_data import STATUSES, TICKER_TYPES
from exchanges.simulator.api.endpoints.trading import MIN_STRATEGY_TYPE, RESPONSE_TYPES
from exchanges.simulator.api.operations import Operation
from exchanges.simulator.api.params import MAX_INTEGER, MAX_RECV_WINDOW_MS
from exchanges.simulator.engine.enums import (
    CancelRestriction,
    OrderType,
    Side,
    StpMode,
    TimeInForce,
)

JSON = "application/json"
#: The refusals that any request may meet, by status.
REFUSALS = {
    "400": "The request is refused.",
    "401": "The key is unknown, revoked, or not allowed to do this.",
    "413": "The form is too large.",
    "418": "The address is banned.",
    "429": "A rate limit is exceeded.",
    "503": "Maintenance.",
    "504": "The engine timed out. The outcome is unknown.",
}
_NAME = r"[A-Z0-9_.\-]{1,50}"
_LONG: Schema = {**INTEGER, "minimum": 0, "maximum": MAX_INTEGER}
_COUNT: Schema = {**INTEGER, "minimum": 1, "maximum": MAX_INTEGER}
_DECIMAL: Schema = {**TEXT, "pattern": errors.DECIMAL_RANGE}
_NAMES: Schema = {**TEXT, "pattern": rf'^\[("{_NAME}"(,"{_NAME}")*)?\]$'}
_CLIENT_ID: Schema = {**TEXT, "pattern": r"^[a-zA-Z0-9_\-]{1,36}$"}

#: The values that each parameter takes, by name.
PARAMETERS: dict[str, Schema] = {
    "symbol": {**TEXT, "pattern": f"^{_NAME}$", "examples": ["BTCUSDT"]},
    "symbols": {**_NAMES, "examples": ['["BTCUSDT","ETHUSDT"]']},
    "permissions": {**TEXT, "minLength": 1, "examples": ["SPOT", '["SPOT","MARGIN"]']},
    "showPermissionSets": BOOLEAN,
    "symbolStatus": {**TEXT, "enum": list(STATUSES)},
    "limit": {**_COUNT, "description": "A limit above the maximum counts as the maximum."},
    "interval": {**TEXT, "enum": list(candles.INTERVAL_SECONDS)},
    "timeZone": {**TEXT, "minLength": 1, "examples": ["0", "-1:00", "05:45"]},
    "windowSize": {**TEXT, "minLength": 1, "examples": ["1m", "4h", "7d"]},
    "type": {**TEXT, "enum": list(TICKER_TYPES)},
    "side": words(Side),
    "timeInForce": words(TimeInForce),
    "newOrderRespType": {**TEXT, "enum": list(RESPONSE_TYPES)},
    "selfTradePreventionMode": words(StpMode),
    "cancelRestrictions": words(CancelRestriction),
    "newClientOrderId": _CLIENT_ID,
    "origClientOrderId": {**TEXT, "minLength": 1},
    "strategyId": _LONG,
    "strategyType": {**INTEGER, "minimum": MIN_STRATEGY_TYPE, "maximum": 2**31 - 1},
    "computeCommissionRates": BOOLEAN,
    "omitZeroBalances": BOOLEAN,
    "timestamp": {**_LONG, "description": "In milliseconds or microseconds."},
    "recvWindow": {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_RECV_WINDOW_MS,
        "multipleOf": 0.001,
        "description": "In milliseconds.",
    },
    "signature": {**TEXT, "minLength": 1},
    **dict.fromkeys(
        (
            "orderId",
            "fromId",
            "startTime",
            "endTime",
            "trailingDelta",
            "preventedMatchId",
            "fromPreventedMatchId",
            "fromAllocationId",
            "fromExecutionId",
        ),
        _LONG,
    ),
    **dict.fromkeys(
        ("quantity", "quoteOrderQty", "price", "stopPrice", "icebergQty", "newQty"), _DECIMAL
    ),
}
_ORDER_TYPE = words(OrderType)


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Exchange simulator",
            "version": "3",
            "description": (
                "The part of Binance's Spot REST API that the simulator serves. Except with GET, "
                "parameters may also be sent as a form in the body."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-MBX-APIKEY"},
            },
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    route = f"{operation.method} {operation.path}"
    answers = {"200": {"description": "Success.", "content": _json(ANSWERS[route])}}
    for status, text in REFUSALS.items():
        answers[status] = {"description": text, "content": _json(ref("Error"))}
    described: dict[str, Any] = {
        "operationId": route,
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in operation.required,
                "schema": _parameter(operation, name),
            }
            for name in sorted(operation.names)
        ],
        "responses": answers,
    }
    if operation.signed:
        described["security"] = [{"key": []}]
    return described


def _parameter(operation: Operation, name: str) -> Schema:
    """Return the values of a parameter. A `type` is that of an order or that of a ticker."""
    return _ORDER_TYPE if name == "type" and "side" in operation.names else PARAMETERS[name]


def _json(schema: Schema) -> dict[str, Any]:
    return {JSON: {"schema": schema}}
