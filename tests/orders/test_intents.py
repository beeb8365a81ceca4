from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchanges.types import plain
from orders.intents import InvalidIntent, bind_arguments, parse_intent, parse_known_intent_id

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIMIT = {
    "intent_id": "buy-1",
    "account": "demo",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.10",
    "price": "60000",
}
MARKET = {name: LIMIT[name] for name in ("intent_id", "account", "symbol", "side", "quantity")} | {
    "order_type": "MARKET"
}


def parse(arguments: dict[str, Any], **changes: Any) -> Any:
    merged = {**arguments, **changes}
    return parse_intent(
        {name: value for name, value in merged.items() if value is not None}, now=NOW
    )


def test_parse_intent__normalizes() -> None:
    intent = parse(LIMIT, symbol="BTC/USDT")
    assert intent.symbol == "BTCUSDT"
    assert intent.amounts.quantity == Decimal("0.1")
    assert intent.amounts.time_in_force == "GTC"
    assert intent == parse(LIMIT, quantity="0.1", time_in_force="GTC")


@pytest.mark.parametrize(
    "value",
    ["", "abc", "NaN", "Infinity", "-1", "+1", "0", "0.000", "1e400", "1e5", "1.", ".5", "1,5",
     " 1", "1 ", "1\n", "٣", "0x1", "1_000", "1" * 21, "0." + "1" * 19, 1, 1.5, True, Decimal(1),
     ["1"], {"a": 1}],
)  # fmt: skip
@pytest.mark.parametrize("field", ["quantity", "price"])
def test_parse_intent__refuses_what_is_no_decimal_and_names_the_field(
    field: str, value: Any
) -> None:
    with pytest.raises(InvalidIntent, match=f"^{field}: ") as caught:
        parse(LIMIT, **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "value", ["1" * 20, "0." + "0" * 17 + "1", "1" * 20 + "." + "1" * 18, "007"]
)
def test_parse_intent__takes_every_digit_of_the_longest_decimals(value: str) -> None:
    assert parse(LIMIT, quantity=value).amounts.quantity == Decimal(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("intent_id", "x" * 65), ("intent_id", ""), ("intent_id", "a b"), ("intent_id", "ä"),
        ("intent_id", 7),
        ("intent_id", "a\n"), ("intent_id", "external:1"), ("intent_id", "recovered:abc"),
        ("account", 1), ("account", ""), ("account", "no such/name"),
        ("symbol", ""), ("symbol", 5), ("symbol", "B T"), ("symbol", "X" * 33),
        ("side", "buy"), ("side", "HOLD"), ("side", 1),
        ("order_type", "limit"), ("order_type", "OCO"), ("order_type", None),
        ("time_in_force", "GTX"), ("time_in_force", 1),
        ("strategy", 1), ("strategy", "s" * 65), ("strategy", "a\nb"),
        ("submitted_at", "yesterday"), ("submitted_at", "2026-11-22T12:00:00"),
        ("submitted_at", 1700000000),
        ("submitted_at", "2026-11-22T13:00:00+00:00"),
        ("place_within_seconds", 0), ("place_within_seconds", -1), ("place_within_seconds", True),
        ("place_within_seconds", "soon"), ("place_within_seconds", float("nan")),
        ("place_within_seconds", 86401),
    ],
)  # fmt: skip
def test_parse_intent__names_the_field_at_fault(field: str, value: Any) -> None:
    with pytest.raises(InvalidIntent) as caught:
        parse(LIMIT, **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["intent_id", "account", "symbol", "side", "order_type"])
def test_parse_intent__names_what_is_missing(field: str) -> None:
    with pytest.raises(InvalidIntent, match=f"^{field}: is missing"):
        parse(LIMIT, **{field: None})


# type, needs, must not have
SHAPES: list[tuple[str, set[str], set[str]]] = [
    ("LIMIT", {"quantity", "price"}, {"quote_quantity", "stop_price"}),
    ("LIMIT_MAKER", {"quantity", "price"}, {"quote_quantity", "stop_price", "time_in_force"}),
    ("STOP_LOSS", {"quantity", "stop_price"}, {"quote_quantity", "price", "time_in_force"}),
    ("STOP_LOSS_LIMIT", {"quantity", "price", "stop_price"}, {"quote_quantity"}),
    ("TAKE_PROFIT", {"quantity", "stop_price"}, {"quote_quantity", "price", "time_in_force"}),
    ("TAKE_PROFIT_LIMIT", {"quantity", "price", "stop_price"}, {"quote_quantity"}),
    ("MARKET", {"quantity"}, {"price", "stop_price", "time_in_force", "quote_quantity"}),
]
VALUES = {
    "quantity": "1",
    "quote_quantity": "1",
    "price": "1",
    "stop_price": "1",
    "time_in_force": "GTC",
}
HEAD = {name: LIMIT[name] for name in ("intent_id", "account", "symbol", "side")}


@pytest.mark.parametrize(("order_type", "needs", "must_not"), SHAPES)
def test_parse_intent__holds_each_type_to_its_figures(
    order_type: str, needs: set[str], must_not: set[str]
) -> None:
    whole = {**HEAD, "order_type": order_type, **{name: VALUES[name] for name in needs}}
    assert parse(whole).amounts.order_type == order_type
    for name in needs:
        with pytest.raises(InvalidIntent, match=f"^{name}: is missing"):
            parse(whole, **{name: None})
    for name in must_not:
        with pytest.raises(InvalidIntent) as caught:
            parse(whole, **{name: VALUES[name]})
        assert caught.value.field == name


def test_parse_intent__market_by_quote_quantity() -> None:
    intent = parse({**HEAD, "order_type": "MARKET", "quote_quantity": "25.5"})
    assert (intent.amounts.quantity, intent.amounts.quote_quantity) == (None, Decimal("25.5"))


def test_parse_intent__unknown_argument_is_named() -> None:
    with pytest.raises(InvalidIntent, match=r"^qty: unknown argument"):
        parse(LIMIT, qty="1")


def test_parse_intent__deadline() -> None:
    intent = parse(LIMIT, submitted_at="2026-11-22T11:59:00Z", place_within_seconds=2.5)
    assert intent.submitted_at == NOW - timedelta(minutes=1)
    assert intent.place_within == timedelta(seconds=2.5)


def test_bind_arguments__positions_and_names() -> None:
    assert bind_arguments(("i", "demo"), {"symbol": "X"}) == {
        "intent_id": "i",
        "account": "demo",
        "symbol": "X",
    }
    with pytest.raises(InvalidIntent, match=r"^intent_id: given twice"):
        bind_arguments(("i",), {"intent_id": "j"})
    with pytest.raises(InvalidIntent, match=r"^arguments: 14"):
        bind_arguments(tuple("x" * 14), {})


def test_parse_known_intent_id__takes_orders_found_at_the_exchange() -> None:
    assert parse_known_intent_id("external:BTCUSDT:12") == "external:BTCUSDT:12"


@given(st.decimals(min_value="1e-18", max_value="99999999999999999999", allow_nan=False, places=18))
def test_parse_intent__plain_text_of_any_decimal_comes_back_equal(value: Decimal) -> None:
    assert parse(LIMIT, quantity=plain(value)).amounts.quantity == value


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted({*LIMIT, "stop_price", "strategy"})),
        st.text() | st.floats() | st.none(),
    )
)
def test_parse_intent__any_rubbish_is_refused_by_name_or_taken(changes: dict[str, Any]) -> None:
    try:
        parse(LIMIT, **changes)
    except InvalidIntent as error:
        named = error.field in {*LIMIT, "stop_price", "strategy"}
    else:
        named = True
    assert named
