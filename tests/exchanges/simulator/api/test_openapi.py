"""Check that the OpenAPI document says what the operations do."""

from __future__ import annotations

from typing import Any

import pytest

from exchanges.simulator.api.answers import ANSWERS, SCHEMAS
from exchanges.simulator.api.openapi import PARAMETERS, document
from exchanges.simulator.api.operations import SIGNED_NAMES, Operation
from exchanges.simulator.server.rest import OPERATIONS
from tests.exchanges.simulator.conftest import RawClient

#: A right value of each required parameter.
VALUES: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "interval": "1m",
    "side": "BUY",
    "type": "LIMIT",
    "newQty": "1",
    "orderId": 1,
}
#: Operations that need one of two or more parameters, which the document can't say.
NEED_ONE_MORE = {
    "DELETE /api/v3/order",
    "GET /api/v3/order",
    "GET /api/v3/ticker",
    "GET /api/v3/ticker/tradingDay",
    "POST /api/v3/order",
    "POST /api/v3/order/test",
    "PUT /api/v3/order/amend/keepPriority",
}


def route(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def ask(client: RawClient, operation: Operation, params: dict[str, Any]) -> dict[str, Any]:
    if operation.signed:
        answer = client.signed(operation.method, operation.path, params).json()
    else:
        url = client.url + operation.path
        answer = client.session.get(url, params=params, timeout=client.timeout).json()
    return answer if isinstance(answer, dict) else {}


def test_document__has_every_operation_parameter_and_answer() -> None:
    described = document(OPERATIONS)
    assert set(ANSWERS) == {route(operation) for operation in OPERATIONS}
    assert set(PARAMETERS) == {name for operation in OPERATIONS for name in operation.names}
    assert sum(len(path) for path in described["paths"].values()) == len(OPERATIONS)
    text = str(described)
    assert [name for name in SCHEMAS if f"schemas/{name}'" not in text] == []


def test_document__is_served(client: RawClient) -> None:
    response = client.session.get(f"{client.url}/openapi.json", timeout=client.timeout)
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == document(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=route)
def test_required_parameters__are_those_without_which_the_call_is_refused(
    client: RawClient, operation: Operation
) -> None:
    params = {name: VALUES[name] for name in operation.required - SIGNED_NAMES}
    complete = ask(client, operation, params)
    assert (complete.get("code") == -1102) is (route(operation) in NEED_ONE_MORE), complete
    for name in params:
        others = {"orderId": 1} | params if "orderId" in operation.names else params
        refused = ask(client, operation, {key: others[key] for key in others if key != name})
        assert refused["code"] == -1102
        assert f"'{name}'" in refused["msg"]
