"""Check that no secret shows in errors, logs or counters."""

from __future__ import annotations

import logging
import re

import pytest

from exchanges.binance.gateway import Gateway
from exchanges.credentials import read_credentials
from exchanges.limits import budget, counters
from exchanges.models import ExchangeAccount
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    API_KEY,
    API_SECRET,
    assert_no_secret_in,
    error_of,
    place,
    refusal,
)
from tests.exchanges.binance.raw_server import (
    RawServer,
    answer,
)

pytestmark = pytest.mark.usefixtures("without_limits")


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
    server: RawServer,
    exchange: Gateway,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(
        budget, "record_response", lambda *_, counter, **__: counted.append(counter)
    )
    caplog.set_level(logging.INFO)
    server.then(
        answer(200, binance.placed()), answer(400, refusal(-1013, "Filter failure: LOT_SIZE"))
    )
    place(exchange)
    error_of(place, exchange)
    assert counted == [
        counters.counter("exchange_calls", account="bot-1", call="place", outcome="ok"),
        counters.counter("exchange_calls", account="bot-1", call="place", outcome="OrderRejected"),
    ]
    lines = [record.msg for record in caplog.records if record.name == "exchanges.binance.gateway"]
    assert [
        {
            name: line[name]
            for name in ("event", "call", "outcome", "code", "http_status", "client_order_id")
        }
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
