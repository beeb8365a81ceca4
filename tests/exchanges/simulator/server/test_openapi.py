"""Let Schemathesis send everything that the OpenAPI document allows, and much that it doesn't."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from exchanges.simulator.api.openapi import document
from exchanges.simulator.client import ControlClient
from exchanges.simulator.server.rest import OPERATIONS
from tests.exchanges.simulator.conftest import RawClient, now_ms, sign_text
from tests.exchanges.simulator.helpers import start_process

pytestmark = pytest.mark.long

#: Values with which most calls succeed, in place of all that the document allows.
LIKELY: dict[str, list[Any]] = {
    "symbol": ["BTCUSDT"],
    "symbols": ['["BTCUSDT"]', '["BTCUSDT","ETHUSDT"]'],
    "orderId": [2, 4, 5, 6],
    "origClientOrderId": ["rests", "stops"],
    "quantity": ["0.001", "0.01", "2"],
    "newQty": ["0.005", "0.01"],
    "price": ["49000", "50000.00", "51000"],
    "stopPrice": ["48000", "50000", "52000"],
    "icebergQty": ["0.001"],
    "quoteOrderQty": ["100", "2000.5"],
    "trailingDelta": [100],
    "permissions": ["SPOT"],
    "timeZone": ["0", "-1:00", "05:45"],
    "windowSize": ["1m", "4h", "7d"],
}
#: One exchange serves all examples of a test, on purpose.
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


#: The parameters of a likely call besides the required ones, where not all of them fit together.
TOGETHER = {
    "POST /api/v3/order": "timeInForce quantity price newOrderRespType selfTradePreventionMode",
    "POST /api/v3/order/test": "timeInForce quantity price computeCommissionRates",
    "GET /api/v3/order": "orderId",
    "DELETE /api/v3/order": "origClientOrderId newClientOrderId",
    "PUT /api/v3/order/amend/keepPriority": "origClientOrderId",
    "GET /api/v3/myPreventedMatches": "orderId limit",
}


def likely(described: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the document in which the parameters take only likely values."""
    narrowed = copy.deepcopy(described)
    for path in narrowed["paths"].values():
        for operation in path.values():
            names = TOGETHER.get(operation["operationId"])
            if names is not None:
                operation["parameters"] = [
                    row
                    for row in operation["parameters"]
                    if row["required"] or row["name"] in names
                ]
            for row in operation["parameters"]:
                row["required"] |= names is not None and row["name"] not in OPTIONAL
                if row["name"] in LIKELY:
                    row["schema"] = {"enum": LIKELY[row["name"]]}
                elif row["name"] == "type" and names is not None:
                    row["schema"] = {"enum": ["LIMIT"]}
    return narrowed


#: Parameters that any of the calls in `TOGETHER` may leave out.
OPTIONAL = {
    "newOrderRespType",
    "selfTradePreventionMode",
    "computeCommissionRates",
    "newClientOrderId",
    "limit",
    "recvWindow",
}


def load(described: dict[str, Any], phases: list[str], modes: list[GenerationMode]) -> Any:
    schema = schemathesis.openapi.from_dict(described)
    schema.config.phases.update(phases=phases)
    schema.config.generation.update(modes=modes)
    return schema


DOCUMENT = document(OPERATIONS)
everything = load(DOCUMENT, ["coverage", "fuzzing"], list(GenerationMode))
likely_calls = load(likely(DOCUMENT), ["fuzzing"], [GenerationMode.POSITIVE])


class Signer(requests.auth.AuthBase):
    """Put a right key, time and signature in place of those that the document allows.

    One that is missing stays missing, and one that the document forbids stays as it is.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if "X-MBX-APIKEY" in request.headers:
            request.headers["X-MBX-APIKEY"] = "k"
        parts = urlsplit(request.url or "")
        sent = [pair.partition("=") for pair in parts.query.split("&") if pair]
        query = "&".join(
            f"{name}={self._timely(name, value)}" for name, _, value in sent if name != "signature"
        )
        signatures = [value for name, _, value in sent if name == "signature"]
        for value in signatures:
            query += f"&signature={sign_text('s', query) if value else ''}"
        request.url = urlunsplit(parts._replace(query=query))
        return request

    def _timely(self, name: str, value: str) -> str:
        is_valid = name == "timestamp" and re.fullmatch("[0-9]{1,18}", value)
        return str(now_ms()) if is_valid else value


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    process = start_process(
        *("--port", "0", "--frozen", "--balances", "USDT=100000000,BTC=10000,ETH=100"),
        *("--weight-limit", "1000000000", "--raw-limit", "1000000000"),
        *("--order-limit-10s", "0", "--order-limit-day", "0"),
        *("--more-account", "other", "k2", "s2", "USDT=100000000,BTC=10000"),
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.kill()
    process.communicate()


@pytest.fixture
def exchange(url: str) -> Iterator[str]:
    """Return the address of an exchange with orders, trades, an amendment and prevented matches."""
    control = ControlClient(url)
    control.reset()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        control.set_price(symbol, "50000")
    mine, other = RawClient(url, "k", "s"), RawClient(url, "k2", "s2")
    rests = {"symbol": "BTCUSDT", "newClientOrderId": "rests", "origClientOrderId": "rests"}
    assert mine.place(newClientOrderId="rests", quantity="0.02").ok
    assert mine.signed("PUT", "order/amend/keepPriority", {**rests, "newQty": "0.015"}).ok
    assert mine.place(side="SELL", timeInForce="IOC").json()["preventedMatches"]
    assert mine.place(newClientOrderId="rests", quantity="0.02").ok
    stop = {"type": "STOP_LOSS_LIMIT", "stopPrice": "51000", "newClientOrderId": "stops"}
    assert mine.place(**stop).ok
    assert other.place(price="49000", quantity="50").ok
    assert other.place(price="51000", quantity="50", side="SELL").ok
    assert mine.place(price="51000").json()["fills"]
    yield url
    assert control.truth().raw["internal_errors"] == 0


@pytest.fixture
def statuses() -> Iterator[set[int]]:
    """Collect the statuses of a test's answers, among which must be a success."""
    seen: set[int] = set()
    yield seen
    assert 200 in seen


@everything.parametrize()
@settings(max_examples=5, suppress_health_check=SHARED)
def test_api__answers_as_documented(case: Case, exchange: str) -> None:
    checks = [*CHECKED, negative_data_rejection]
    case.call_and_validate(base_url=exchange, auth=Signer(), checks=checks)


@likely_calls.parametrize()
@settings(max_examples=15, suppress_health_check=SHARED)
def test_api__answers_likely_calls_as_documented(
    case: Case, exchange: str, statuses: set[int]
) -> None:
    response = case.call_and_validate(base_url=exchange, auth=Signer(), checks=CHECKED)
    statuses.add(response.status_code)
