"""Malformed messages: an error names the field, nothing is sent or recorded, the worker lives."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.celery import app
from exchanges.limits import counters
from orders.intents import IntentConflict, InvalidIntent
from orders.models import Order, OrderEvent
from tests.harness.scenario import Scenario
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import LIMIT_BUY, MARKET_BUY, order, place, placements, send, send_cancel

NO_DECIMALS: dict[str, Any] = {
    "words": "ten",
    "empty": "",
    "NaN": "NaN",
    "sNaN": "sNaN",
    "NaN as a number": float("nan"),
    "Infinity": "Infinity",
    "-inf": "-inf",
    "infinity as a number": float("inf"),
    "float": 0.01,
    "int": 1,
    "bool": True,
    "list": ["1"],
    "object": {"value": "1"},
    "negative": "-0.01",
    "signed": "+0.01",
    "zero": "0",
    "zero with decimals": "0.000",
    "1e400": "1e400",
    "1e-2": "1e-2",
    "19 decimals": "0.0100000000000000001",
    "21 digits": "1" * 21,
    "leading point": ".01",
    "trailing point": "1.",
    "comma": "0,01",
    "underscore": "1_000",
    "space": " 1",
    "line feed": "1\n",
    "hexadecimal": "0x10",
    "Arabic digits": "٠.٠١",
    "full-width digits": "０.０１",
    "NUL": "1\x00",
    "long": "9" * 100_000,
}
STOP_LOSS: dict[str, Any] = {**MARKET_BUY, "order_type": "STOP_LOSS"}
# field at fault -> messages
MALFORMED: dict[str, list[dict[str, Any]]] = {
    "quantity": [
        *[{**LIMIT_BUY, "quantity": value} for value in NO_DECIMALS.values()],
        {name: value for name, value in LIMIT_BUY.items() if name != "quantity"},
        {name: value for name, value in MARKET_BUY.items() if name != "quantity"},
    ],
    "quote_quantity": [
        *[
            {**MARKET_BUY, "quantity": None, "quote_quantity": value}
            for value in NO_DECIMALS.values()
        ],
        {**MARKET_BUY, "quote_quantity": "100"},
        {**LIMIT_BUY, "quote_quantity": "100"},
    ],
    "price": [
        *[{**LIMIT_BUY, "price": value} for value in NO_DECIMALS.values()],
        {**MARKET_BUY, "price": "50000"},
        {**LIMIT_BUY, "price": None},
        {name: value for name, value in LIMIT_BUY.items() if name != "price"},
        {**STOP_LOSS, "stop_price": "70000", "price": "50000"},
    ],
    "stop_price": [
        *[{**STOP_LOSS, "stop_price": value} for value in NO_DECIMALS.values()],
        STOP_LOSS,
        {**LIMIT_BUY, "stop_price": "40000"},
    ],
    "account": [
        {**LIMIT_BUY, "account": "nobody"},
        {**LIMIT_BUY, "account": ""},
        {**LIMIT_BUY, "account": "demo' OR 1=1"},
        {**LIMIT_BUY, "account": 1},
        {**LIMIT_BUY, "account": None},
        {name: value for name, value in LIMIT_BUY.items() if name != "account"},
    ],
    "side": [
        *[{**LIMIT_BUY, "side": value} for value in ("HOLD", "buy", "", 1, None, ["BUY"])],
        {name: value for name, value in LIMIT_BUY.items() if name != "side"},
    ],
    "order_type": [
        *[{**LIMIT_BUY, "order_type": value} for value in ("OCO", "limit", "", 1, None)],
        {name: value for name, value in LIMIT_BUY.items() if name != "order_type"},
    ],
    "symbol": [
        *[
            {**LIMIT_BUY, "symbol": value}
            for value in ("", 1, None, "BTC USDT", "B" * 33, "BTC\x00USDT", "\ud800")
        ],
        {name: value for name, value in LIMIT_BUY.items() if name != "symbol"},
    ],
    "time_in_force": [
        *[{**LIMIT_BUY, "time_in_force": value} for value in ("DAY", "gtc", 1)],
        {**MARKET_BUY, "time_in_force": "GTC"},
    ],
    "intent_id": [
        {**LIMIT_BUY, "intent_id": value}
        for value in (
            "",
            "x" * 65,
            "two words",
            "ключ",
            "a/b",
            "a\n",
            1,
            None,
            "external:1",
            "recovered:x",
        )
    ],
    "strategy": [{**LIMIT_BUY, "strategy": value} for value in ("s" * 65, 1, "a\x00b", "\ud800")],
    "submitted_at": [
        {**LIMIT_BUY, "submitted_at": value}
        for value in (
            "yesterday",
            "2026-01-01T00:00:00",
            "2999-01-01T00:00:00+00:00",
            1_700_000_000,
            ["x"],
        )
    ],
    "place_within_seconds": [
        {**LIMIT_BUY, "place_within_seconds": value}
        for value in (0, -1, "soon", float("nan"), float("inf"), 86_401, True, "1e3")
    ],
    "qty": [{**LIMIT_BUY, "qty": "1"}],
}
MALFORMED_CANCELS: dict[str, list[dict[str, Any]]] = {
    "intent_id": [{"intent_id": value} for value in (None, 1, "", "x" * 65, "never-seen", "a\x00")],
    "account": [{"account": value} for value in (None, 1, "nobody", "demo;")],
    "requested_by": [{"requested_by": value} for value in (1, None, "n" * 151, "a\x00b", "\ud800")],
    "reason": [{"reason": value} for value in (1, None, "a\x00b", "\ud800", "r" * 100_000)],
    "force": [{"force": "yes"}],
}


def test_submit_order__malformed_arguments_are_refused_by_name(desk: Scenario) -> None:
    results = [
        (
            field,
            row,
            send(row.get("intent_id", "i-1"), {k: v for k, v in row.items() if k != "intent_id"}),
        )
        for field, rows in MALFORMED.items()
        for row in rows
    ]
    problems = [
        problem for field, row, result in results if (problem := problem_of(result, field, row))
    ]

    assert problems == []
    assert Order.objects.count() == OrderEvent.objects.count() == 0
    assert placements(desk) == 0
    counted = {
        labels: n
        for (name, labels), n in counters.read_counters().items()
        if name == "invalid_intents"
    }
    assert sum(counted.values()) == len(results)
    assert_worker_goes_on(desk)


def test_submit_order__positional_and_missing_arguments_are_bound_by_name(desk: Scenario) -> None:
    def ask(*args: Any, **kwargs: Any) -> Any:
        return app.send_task(
            "orders.submit_order", args=args, kwargs=kwargs, ignore_result=False
        ).get(timeout=20, propagate=False)

    assert ask("i-1", "demo", "BTCUSDT", "BUY", "LIMIT", "0.01", price="50000")["status"] == "NEW"
    for problem, field in (
        (ask(), "intent_id"),
        (ask(*["x"] * 14), "arguments"),
        (ask("i-2", intent_id="i-2", **LIMIT_BUY), "intent_id"),
    ):
        assert isinstance(problem, InvalidIntent)
        assert problem.field == field
    assert_book_equals_truth(desk, placed=1)
    assert_worker_goes_on(desk)


def test_cancel_order__malformed_arguments_are_refused_by_name(desk: Scenario) -> None:
    place("known")
    version = order("known").version
    results = [
        (field, row, send_cancel(**{"intent_id": "known", **row}))
        for field, rows in MALFORMED_CANCELS.items()
        for row in rows
    ]
    problems = [
        problem for field, row, result in results if (problem := problem_of(result, field, row))
    ]

    assert problems == []
    assert order("known").version == version
    assert desk.simulator.control.truth().requests.get("DELETE /api/v3/order", 0) == 0
    assert_worker_goes_on(desk)


@pytest.mark.core
def test_submit_order__an_unknown_symbol_is_denied_where_staff_see_it(desk: Scenario) -> None:
    for intent_id, symbol in (
        ("unknown", "NOSUCH"),
        ("letters", "ＢＴＣ"),
        ("injection", "BTC';--"),
    ):
        answer = place(intent_id, symbol=symbol)
        assert (answer["status"], answer["reason_code"]) == ("DENIED", "UNKNOWN_INSTRUMENT")
        assert symbol in answer["reason"]
    assert placements(desk) == 0
    assert_book_equals_truth(desk, placed=0)


def test_submit_order__well_formed_but_beyond_the_filters_is_denied(desk: Scenario) -> None:
    denied: dict[str, tuple[dict[str, Any], str]] = {
        "too-little": ({"quantity": "0.0000001"}, "ROUNDS_TO_ZERO"),
        "below-notional": ({"quantity": "0.00001"}, "NOTIONAL"),
        "too-much": ({"quantity": "9" * 20}, "LOT_SIZE"),
        "too-dear": ({"price": "9" * 20}, "PRICE_FILTER"),
        "too-poor": ({"quantity": "100"}, "INSUFFICIENT_BALANCE"),
        "18-decimals": ({"quantity": "0." + "0" * 17 + "1"}, "ROUNDS_TO_ZERO"),
    }
    for intent_id, (changes, code) in denied.items():
        answer = place(intent_id, **changes)
        assert (answer["status"], answer["reason_code"]) == ("DENIED", code), intent_id
    assert placements(desk) == 0
    assert_book_equals_truth(desk, placed=0)


OTHERS: dict[str, dict[str, Any]] = {
    "symbol": {"symbol": "ETHUSDT"},
    "side": {"side": "SELL"},
    "order_type": {"order_type": "LIMIT_MAKER"},
    "quantity": {"quantity": "0.010000000000000001"},
    "price": {"price": "50000.01"},
    "time_in_force": {"time_in_force": "IOC"},
}


def test_submit_order__other_arguments_under_a_known_intent_change_nothing(desk: Scenario) -> None:
    place("i-1", LIMIT_BUY)
    before = Order.objects.filter(intent_id="i-1").values().get()
    for field, changes in OTHERS.items():
        with pytest.raises(IntentConflict, match=rf"^{field}: intent 'i-1' is known with "):
            place("i-1", LIMIT_BUY, **changes)
    same = place(
        "i-1",
        symbol="BTC/USDT",
        quantity="00.0100",
        price="50000",
        time_in_force="GTC",
        strategy="other",
    )

    assert same["status"] == "NEW"
    assert Order.objects.filter(intent_id="i-1").values().get() == before
    assert placements(desk) == 1
    assert_book_equals_truth(desk, placed=1)
    assert "Traceback" not in desk.worker.output()


def problem_of(result: Any, field: str, row: dict[str, Any]) -> str:
    """Return the flaw in the answer to a message with a bad field, empty if there is none."""
    answer = result.get(timeout=30, propagate=False)
    shown = {name: repr(value)[:40] for name, value in row.items()}
    if not isinstance(answer, InvalidIntent):
        return f"{field}: {shown} -> {answer!r}"
    if answer.field != field or len(str(answer)) > 300:
        return f"{field}: {shown} -> {str(answer)[:300]}"
    return ""


def assert_worker_goes_on(desk: Scenario) -> None:
    assert place("a-good-one")["status"] == "NEW"
    assert "Traceback" not in desk.worker.output()
