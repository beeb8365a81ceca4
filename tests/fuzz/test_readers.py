"""Feed every reader of outside text with hostile input: it answers, or raises its own error."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.environment import Environment
from exchanges.binance import messages
from exchanges.binance.http import parsed
from exchanges.binance.json_fields import Malformed
from exchanges.binance.stream_messages import read_event
from exchanges.types import OrderRequest, OrderType, ReportSource, Side
from orders.intents import FIELDS, InvalidIntent, bind_arguments, parse_intent
from orders.management.order_file import BadFile, read_order_file
from tests.fuzz.mutating import HOSTILE_TEXTS, corpus, damaged_text, hostile, mutated

MANY = settings(max_examples=300)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REQUEST = OrderRequest(
    symbol="BTCUSDT",
    side=Side.BUY,
    order_type=OrderType.MARKET,
    client_order_id="bo-a",
    timestamp_ms=1,
    recv_window_ms=5000,
    quantity=Decimal("0.01"),
)
READERS: dict[str, Callable[[Any], Any]] = {
    "placed_order": lambda body: messages.placed_order(body, REQUEST),
    "canceled_order": messages.canceled_order,
    "canceled_orders": messages.canceled_orders,
    "queried_order": messages.queried_order,
    "queried_orders": lambda body: messages.queried_orders(body, ReportSource.ALL_ORDERS),
    "trades": lambda body: messages.trades(body, symbol="BTCUSDT"),
    "account": messages.account,
    "exchange_info": messages.exchange_info,
    "last_trade": lambda body: messages.last_trade(body, symbol="BTCUSDT"),
    "last_prices": messages.last_prices,
    "bids_and_asks": messages.bids_and_asks,
    "server_time": messages.server_time,
}
INTENT = {
    "intent_id": "i-1",
    "account": "demo",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "50000",
    "time_in_force": "GTC",
    "strategy": "s",
    "submitted_at": "2026-11-29T11:59:59+00:00",
    "place_within_seconds": 30,
}
CSV = "intent_id,account,symbol,side,order_type,quantity,price\ni-1,demo,BTCUSDT,BUY,LIMIT,1,2\n"
JSON_LINES = json.dumps(INTENT) + "\n" + json.dumps({**INTENT, "intent_id": "i-2"}) + "\n"


@pytest.mark.parametrize("name", READERS)
def test_answers__sound_ones_are_read(name: str) -> None:
    assert READERS[name](corpus(name)) is not None


@MANY
@given(st.data(), st.sampled_from(sorted(READERS)))
def test_answers__raise_nothing_but_malformed(data: st.DataObject, name: str) -> None:
    body = data.draw(mutated(corpus(name)))
    try:
        READERS[name](body)
    except Malformed:
        return


@MANY
@given(st.data())
def test_events__raise_nothing_but_malformed(data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(corpus("events")).flatmap(mutated))
    try:
        read_event(event)
    except Malformed:
        return


@MANY
@given(st.data())
def test_bodies__are_json_or_a_value_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(READERS)))
    text = data.draw(damaged_text(json.dumps(corpus(name))))
    try:
        found = parsed(text)
    except (ValueError, RecursionError):  # the wire takes both for "not JSON"
        return
    assert "\\u0000" not in json.dumps(found), "no column takes a NUL"


@MANY
@given(st.data())
def test_intents__raise_nothing_but_invalid_intent(data: st.DataObject) -> None:
    arguments = data.draw(mutated(INTENT))
    try:
        parse_intent(bind_arguments((), arguments), now=NOW)
    except InvalidIntent as error:
        named = error.field
    except (AttributeError, TypeError):
        named = "" if isinstance(arguments, dict) else "Celery's own arguments are always named"
    else:
        named = "all"
    assert named, "the error names no field"


@MANY
@given(st.lists(hostile, max_size=len(FIELDS) + 2))
def test_intents__by_position_raise_nothing_but_invalid_intent(values: list[Any]) -> None:
    try:
        parse_intent(bind_arguments(tuple(values), {}), now=NOW)
    except InvalidIntent:
        return


@MANY
@given(st.data())
def test_order_files__raise_nothing_but_bad_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix, text = data.draw(
        st.sampled_from(
            ((".csv", CSV), (".jsonl", JSON_LINES), (".txt", CSV), (".txt", JSON_LINES))
        )
    )
    path: Path = tmp_path_factory.getbasetemp() / f"orders{suffix}"
    path.write_bytes(data.draw(damaged_text(text)))
    try:
        lines = read_order_file(path)
    except BadFile:
        return
    for line in lines:
        if line.problem:
            continue
        try:
            parse_intent(bind_arguments((), line.arguments), now=NOW)
        except InvalidIntent:
            continue


_ENVIRONMENT: dict[str, Callable[[Environment], Any]] = {
    "bool": lambda env: env.bool("NAME", default=True),
    "int": lambda env: env.int("NAME", default=1),
    "positive_int": lambda env: env.positive_int("NAME", default=1),
    "seconds": lambda env: env.seconds("NAME", default=1),
    "float": lambda env: env.float("NAME", default=1.0),
    "list": lambda env: env.list("NAME", default=[]),
    "origins": lambda env: env.origins("NAME", default=[]),
    "identifier": lambda env: env.identifier("NAME", default="main"),
    "redis_url": lambda env: env.redis_url("NAME", default="redis://127.0.0.1/0"),
    "broker_url": lambda env: env.broker_url("NAME", default=""),
    "result_backend": lambda env: env.result_backend("NAME", default=""),
    "language": lambda env: env.language("NAME", default="en"),
    "log_level": lambda env: env.log_level("NAME", default="INFO"),
    "asset_codes": lambda env: env.asset_codes("NAME", default=[]),
}
_SETTINGS = (
    "redis://127.0.0.1:6379/0",
    "rediss://:password@example.com:6379/0?ssl_cert_reqs=required",
    "sentinel://a:1;sentinel://b:2",
    "https://backoffice.example",
    "amqp://u:p@h:5672//",
    "redis://[::1",
    "redis://h:port/0",
    "redis://h:99999/0",
    *HOSTILE_TEXTS,
)


@MANY
@given(st.data(), st.sampled_from(sorted(_ENVIRONMENT)))
def test_settings__raise_nothing_but_improperly_configured(data: st.DataObject, kind: str) -> None:
    text = data.draw(st.one_of(st.sampled_from(_SETTINGS), st.text(max_size=60)))
    damaged = data.draw(damaged_text(text)).decode("utf-8", "surrogateescape")
    try:
        _ENVIRONMENT[kind](Environment({"NAME": damaged}))
    except ImproperlyConfigured as error:
        words = str(error)
    else:
        words = "NAME"
    assert "NAME" in words, "the error names no variable"
