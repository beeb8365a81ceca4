"""A change of limits that lets more through is found, and one that tightens is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges import clock
from exchanges.types import OrderType
from orders.gate.limits import (
    LastTrade,
    Limits,
    Usage,
    check_limits,
    check_usage,
    in_force,
    with_live_defaults,
)
from orders.gate.loosening import Book, loosens
from tests.orders.gate.test_checks import RULES, amounts

D = Decimal
NOW = clock.now()
HOUR = timedelta(hours=1)
MONEY = ("USDT",)


def row(**fields: Any) -> Limits:
    return Limits(**{"currency": "USDT", **fields})


def is_looser(old: Sequence[Limits], new: Sequence[Limits], *, is_live: bool = False) -> bool:
    return loosens(Book(old, is_live, MONEY), Book(new, is_live, MONEY), NOW)


CHANGES: list[tuple[str, list[Limits], list[Limits], bool]] = [
    ("a first limit", [], [row(max_open_orders=5)], False),
    ("no limit any more", [row(max_open_orders=5)], [], True),
    ("an empty row", [], [row()], False),
    ("an empty row goes", [row()], [], False),
    ("more", [row(max_open_orders=5)], [row(max_open_orders=6)], True),
    ("less", [row(max_open_orders=5)], [row(max_open_orders=4)], False),
    ("emptied", [row(max_position=D(1))], [row()], True),
    ("one less, one more", [row(max_open_orders=5, max_position=D(1))],
     [row(max_open_orders=4, max_position=D("1.1"))], True),
    ("more money", [row(max_daily_loss=D(5))], [row(max_daily_loss=D("5.01"))], True),
    ("less money", [row(max_daily_loss=D(5))], [row(max_daily_loss=D("4.99"))], False),
    ("another currency opens it", [row(max_order_notional=D(5))],
     [row(max_order_notional=D(5)), row(currency="BTC", max_order_notional=D(1))], True),
    ("a currency goes and denies", [row(max_order_notional=D(5)),
     row(currency="BTC", max_order_notional=D(1))], [row(max_order_notional=D(5))], False),
    ("another scope only tightens", [row(max_order_notional=D(5))],
     [row(max_order_notional=D(5)), row(symbol="BTCUSDT", max_order_notional=D(9))], False),
    ("moved to a symbol", [row(max_open_orders=5)],
     [row(symbol="BTCUSDT", max_open_orders=5)], True),
    ("fewer symbols", [row(allowed_symbols="A B")], [row(allowed_symbols="A")], False),
    ("first symbols", [row()], [row(allowed_symbols="A")], False),
    ("more symbols", [row(allowed_symbols="A")], [row(allowed_symbols="A B")], True),
    ("every symbol", [row(allowed_symbols="A")], [row()], True),
    ("the same symbols", [row(allowed_symbols="a/b c")], [row(allowed_symbols="C,AB")], False),
    ("an older price", [row(max_price_distance=D(5))],
     [row(max_price_distance=D(5), max_price_age=61)], True),
    ("an age without a distance", [row()], [row(max_price_age=61)], False),
    ("a first distance", [row()], [row(max_price_distance=D(5), max_price_age=999)], False),
    ("a shorter window", [row(max_identical_orders=5)],
     [row(max_identical_orders=5, identical_window=9)], True),
    ("a longer window", [row(max_identical_orders=5)],
     [row(max_identical_orders=5, identical_window=11)], False),
    ("a window without a limit", [row()], [row(identical_window=1)], False),
]  # fmt: skip
LIVE: list[tuple[str, list[Limits], list[Limits], bool]] = [
    ("above the built-in one", [], [row(max_order_notional=D(1001))], True),
    ("below the built-in one", [], [row(max_order_notional=D(999))], False),
    ("back to the built-in one", [row(max_order_notional=D(5000))], [], False),
    ("up to the built-in one", [row(max_order_notional=D(5))], [], True),
    ("not money: was denied", [], [row(currency="BTC", max_order_notional=D(1))], True),
    ("more orders", [], [row(max_open_orders=51)], True),
    ("of a symbol", [], [row(symbol="BTCUSDT", max_open_orders=51)], False),
    ("a wider distance", [], [row(max_price_distance=D(6))], True),
    ("an older price", [], [row(max_price_distance=D(5), max_price_age=61)], True),
    ("a shorter window", [], [row(max_identical_orders=5, identical_window=1)], True),
    ("no built-in one", [], [row(max_daily_loss=D(1))], False),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), CHANGES, ids=[c[0] for c in CHANGES])
def test_loosens__each_limit(
    name: str, old: list[Limits], new: list[Limits], expected: bool
) -> None:
    assert is_looser(old, new) is expected


@pytest.mark.parametrize(("name", "old", "new", "expected"), LIVE, ids=[c[0] for c in LIVE])
def test_loosens__knows_the_built_in_limits_of_a_live_account(
    name: str, old: list[Limits], new: list[Limits], expected: bool
) -> None:
    assert is_looser(old, new, is_live=True) is expected


some = st.one_of(st.none(), st.integers(0, 6))
limit_rows = st.builds(
    Limits,
    currency=st.sampled_from(["USDT", "BTC"]),
    symbol=st.sampled_from(["", "BTCUSDT"]),
    max_order_notional=st.one_of(st.none(), st.integers(0, 2000).map(Decimal)),
    max_notional_per_day=st.one_of(st.none(), st.integers(0, 2000).map(Decimal)),
    max_daily_loss=some.map(lambda count: count if count is None else Decimal(count)),
    max_open_orders=some,
    max_orders_per_second=some,
    max_orders_per_day=some,
    max_position=some.map(lambda count: count if count is None else Decimal(count)),
    max_price_distance=some.map(lambda count: count if count is None else Decimal(count)),
    max_price_age=st.sampled_from([10, 60, 90]),
    max_identical_orders=some,
    allowed_symbols=st.sampled_from(["", "BTCUSDT", "ETHUSDT", "BTCUSDT ETHUSDT"]),
    identical_window=st.sampled_from([5, 10]),
    until=st.sampled_from([None, None, NOW + HOUR, NOW + 2 * HOUR, NOW - HOUR]),
)
books = st.lists(limit_rows, max_size=4, unique_by=lambda one: (one.place, one.until))
usages = st.builds(
    Usage,
    open_orders=st.integers(0, 6),
    orders_this_second=st.integers(0, 6),
    orders_today=st.integers(0, 6),
    notional_today=st.integers(0, 2000).map(Decimal),
    loss_today=st.integers(0, 6).map(Decimal),
    position=st.integers(0, 6).map(Decimal),
    identical_orders=st.integers(0, 6),
)


def passes(
    rows: list[Limits], usage: Usage, *, quote: str, is_live: bool, price: int, age: int
) -> bool:
    """Return whether the gate lets a buy through."""
    rules = replace(RULES, quote_asset=quote)
    last = LastTrade(D(100), NOW - timedelta(seconds=age), NOW)
    given_amounts = amounts(order_type=OrderType.LIMIT, price=D(price), quantity=D(1))
    if is_live:
        rows = with_live_defaults(rows, quote_asset=quote, in_money=quote in MONEY)
    if check_limits(rows, rules, given_amounts, last, NOW):
        return False
    return not any(check_usage(one, usage, rules, given_amounts, last) for one in rows)


@given(
    old=books,
    new=books,
    usage=usages,
    quote=st.sampled_from(["USDT", "BTC"]),
    is_live=st.booleans(),
    price=st.integers(90, 110),
    age=st.sampled_from([5, 30, 70]),
    hours=st.sampled_from([0, 1, 3]),
)
def test_what_does_not_loosen__lets_nothing_more_through(
    old: list[Limits],
    new: list[Limits],
    usage: Usage,
    quote: str,
    is_live: bool,
    price: int,
    age: int,
    hours: int,
) -> None:
    situation: dict[str, Any] = {"quote": quote, "is_live": is_live, "price": price, "age": age}
    if not is_looser(old, new, is_live=is_live):
        then = NOW + hours * HOUR
        before, after = ([*in_force(rows, then)] for rows in (old, new))
        assert passes(before, usage, **situation) or not passes(after, usage, **situation)


def test_in_force__a_temporary_row_replaces_the_lasting_one_until_its_end() -> None:
    lasting = [row(max_open_orders=5), row(currency="BTC"), row(symbol="BTCUSDT")]
    temporary = row(max_open_orders=50, until=NOW + HOUR)
    rows = [*lasting, temporary]
    assert in_force(rows, NOW) == [*lasting[1:], temporary]
    assert in_force(rows, NOW + HOUR) == lasting
    assert in_force(lasting, NOW) is lasting


ENDS: list[tuple[str, list[Limits], list[Limits], bool]] = [
    ("looser for an hour", [row(max_open_orders=5)],
     [row(max_open_orders=5), row(max_open_orders=6, until=NOW + HOUR)], True),
    ("tighter for an hour", [row(max_open_orders=5)],
     [row(max_open_orders=5), row(max_open_orders=4, until=NOW + HOUR)], False),
    ("looser for longer", [row(max_open_orders=5), row(max_open_orders=6, until=NOW + HOUR)],
     [row(max_open_orders=5), row(max_open_orders=6, until=NOW + 2 * HOUR)], True),
    ("tighter for shorter", [row(max_open_orders=5), row(max_open_orders=4, until=NOW + 2 * HOUR)],
     [row(max_open_orders=5), row(max_open_orders=4, until=NOW + HOUR)], True),
    ("looser, and ended early", [row(max_open_orders=5), row(max_open_orders=6, until=NOW + HOUR)],
     [row(max_open_orders=5)], False),
    ("a limit that has ended goes", [row(max_open_orders=5, until=NOW)], [], False),
    ("the hidden lasting one", [row(max_open_orders=5), row(max_open_orders=4, until=NOW + HOUR)],
     [row(max_open_orders=6), row(max_open_orders=4, until=NOW + HOUR)], True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "expected"), ENDS, ids=[c[0] for c in ENDS])
def test_loosens__also_later(
    name: str, old: list[Limits], new: list[Limits], expected: bool
) -> None:
    assert is_looser(old, new) is expected
