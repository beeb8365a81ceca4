"""Check the error table against the documented errors in `tests/data/binance_errors.json`."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from exchanges.binance.error_table import Transport, classify, error_for
from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.types import CallKind

DOCUMENTED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "binance_errors.json").read_text()
)

ERROR_OF_CLASS: dict[str, type[GatewayError]] = {
    "rejected": OrderRejected,
    "filter": OrderRejected,
    "insufficient_funds": OrderRejected,
    "ambiguous": OutcomeUnknown,
    "rate_limited": NotSent,
    "clock": NotSent,
    "transient": NotSent,
    "auth": AccountError,
    "not_found": OrderNotFound,
    "duplicate": DuplicateOrder,
    "other": OutcomeUnknown,  # nothing that answers an order: the default
}
# "Server is busy" of older lists, in no documentation of today: it proves nothing about execution.
UNDOCUMENTED_BUSY = -1004

CODES = [
    (row["code"], text, row["class"])
    for row in DOCUMENTED["codes"]
    for text in row["messages"] or [""]
    if row["code"] != UNDOCUMENTED_BUSY
]
TEXTS = [(code, row["text"], row["class"]) for row in DOCUMENTED["texts"] for code in row["codes"]]


def call_of(kind: str) -> CallKind:
    """The call that such an answer belongs to."""
    return CallKind.CANCEL if kind == "not_found" else CallKind.PLACE


@pytest.mark.parametrize(("code", "text", "kind"), CODES)
def test_classify__every_documented_code_has_its_class(code: int, text: str, kind: str) -> None:
    assert (
        classify(kind=call_of(kind), http_status=400, code=code, message=text)
        is ERROR_OF_CLASS[kind]
    )


@pytest.mark.parametrize(("code", "text", "kind"), TEXTS)
def test_classify__every_documented_text_has_its_class(code: int, text: str, kind: str) -> None:
    assert (
        classify(kind=call_of(kind), http_status=400, code=code, message=text)
        is ERROR_OF_CLASS[kind]
    )


def test_documented__is_complete() -> None:
    assert (len(DOCUMENTED["codes"]), len(DOCUMENTED["texts"])) == (110, 41 + 18)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Duplicate order sent.", DuplicateOrder),
        ("Duplicate order sent", DuplicateOrder),
        ("A duplicate order sent.", OrderRejected),
        ("This action is disabled on this account.", AccountError),
        ("Filter failure: SOMETHING_NEW", OrderRejected),
        ("a text nobody listed", OrderRejected),
    ],
)
def test_classify__text_decides_before_code(text: str, error: type[GatewayError]) -> None:
    assert classify(kind=CallKind.PLACE, http_status=400, code=-2010, message=text) is error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Unknown order sent.", OrderNotFound),
        ("a text nobody listed", OrderNotFound),
        ("Order was not canceled due to cancel restrictions.", OrderRejected),
        ("Market is closed.", OrderRejected),
        ("This symbol is restricted for this account.", OrderRejected),
    ],
)
def test_classify__a_refused_cancel_is_not_always_an_unknown_order(
    text: str, error: type[GatewayError]
) -> None:
    assert classify(kind=CallKind.CANCEL, http_status=400, code=-2011, message=text) is error


@pytest.mark.parametrize(
    ("call", "code", "text"),
    [
        (CallKind.PLACE, -2011, "Unknown order sent."),
        (CallKind.PLACE, -2013, "Order does not exist."),
        (CallKind.READ, -2011, "Unknown order sent."),
    ],
)
def test_classify__an_answer_to_another_question_proves_nothing(
    call: CallKind, code: int, text: str
) -> None:
    assert classify(kind=call, http_status=400, code=code, message=text) is OutcomeUnknown


@pytest.mark.parametrize("call", CallKind)
@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("code", [None, -1003, -1007, -1013, -1021, -2010, -2013, -2015])
def test_classify__5xx_is_unknown_whatever_the_body_says(
    call: CallKind, status: int, code: int | None
) -> None:
    assert (
        classify(kind=call, http_status=status, code=code, message="Order does not exist.")
        is OutcomeUnknown
    )


@pytest.mark.parametrize("call", CallKind)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccountError),
        (403, NotSent),
        (409, OutcomeUnknown),
        (418, NotSent),
        (429, NotSent),
        (451, AccountError),
    ],
)
def test_classify__these_statuses_decide_alone(
    call: CallKind, status: int, error: type[GatewayError]
) -> None:
    for code in (None, -1003, -1015, -2021, -9999):
        assert classify(kind=call, http_status=status, code=code) is error


@pytest.mark.parametrize("call", CallKind)
@pytest.mark.parametrize("status", [100, 200, 201, 204, 302, 307, 400, 404, 408, 410, 422, 600])
@pytest.mark.parametrize("code", [None, 0, -1, -1004, -9999, 2010])
def test_classify__what_no_row_covers_is_unknown(
    call: CallKind, status: int, code: int | None
) -> None:
    assert (
        classify(kind=call, http_status=status, code=code, message="Duplicate order sent.")
        is OutcomeUnknown
    )


@pytest.mark.parametrize("code", [-1013, -1121, -2010, -2011, -2013, -2015])
def test_classify__a_refusal_under_200_is_no_refusal(code: int) -> None:
    assert (
        classify(kind=CallKind.PLACE, http_status=200, code=code, message="Duplicate order sent.")
        is OutcomeUnknown
    )


@pytest.mark.parametrize("call", CallKind)
def test_classify__transport_decides_first(call: CallKind) -> None:
    assert classify(kind=call, transport=Transport.UNSENT, http_status=400, code=-2010) is NotSent
    assert (
        classify(kind=call, transport=Transport.LOST, http_status=400, code=-2010) is OutcomeUnknown
    )


def test_error_for__carries_what_the_exchange_said() -> None:
    error = error_for(
        kind=CallKind.PLACE, message="Filter failure: LOT_SIZE", http_status=400, code=-1013
    )
    assert (type(error), error.code, error.http_status) == (OrderRejected, -1013, 400)
    assert str(error) == "Filter failure: LOT_SIZE (code -1013, HTTP 400)"


def test_error_for__only_not_sent_has_retry_after() -> None:
    error = error_for(kind=CallKind.PLACE, message="slow down", http_status=429, retry_after=7.0)
    assert isinstance(error, NotSent)
    assert error.retry_after == 7.0


def test_gateway_error__survives_a_process_border() -> None:
    error = pickle.loads(
        pickle.dumps(NotSent("later", code=-1003, http_status=429, retry_after=3.0))
    )
    assert (str(error), error.code, error.http_status, error.retry_after) == (
        "later (code -1003, HTTP 429)",
        -1003,
        429,
        3.0,
    )
