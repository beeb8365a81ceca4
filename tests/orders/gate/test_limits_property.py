"""Adding a limit never lets more through, except by the same field, currency and scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exchanges.instrument_rules import InstrumentRules
from orders.amounts import OrderAmounts
from orders.gate.limits import (
    LIVE_DEFAULTS,
    MONEY_FIELDS,
    LastTrade,
    Limits,
    Usage,
    check_limits,
    check_usage,
    with_live_defaults,
)
from tests.orders.gate.test_checks import RULES, amounts
from tests.orders.gate.test_limits import LAST, NOW

D = Decimal
SYMBOL, STRATEGY = RULES.symbol, "grid"
FIELDS = tuple(
    name for name in Limits.__slots__ if name.startswith("max_") and name != "max_price_age"
)
AMOUNTS = st.sampled_from([D(0), D(1), D(499), D(501), D(1001), D(10) ** 9])
COUNTS = st.sampled_from([0, 1, 4, 6, 49, 51, 10**9])


def values_of(field: str) -> st.SearchStrategy[Any]:
    is_amount = field in MONEY_FIELDS or field in ("max_position", "max_price_distance")
    return st.none() | (AMOUNTS if is_amount else COUNTS)


rows = st.builds(
    Limits,
    id=st.integers(1, 10**6),
    symbol=st.sampled_from(["", SYMBOL]),
    strategy=st.sampled_from(["", STRATEGY]),
    currency=st.sampled_from(["USDT", "EUR", "BTC"]),
    allowed_symbols=st.sampled_from(["", SYMBOL, "ETHUSDT"]),
    max_price_age=st.sampled_from([0, 60, 10**6]),
    **{field: values_of(field) for field in FIELDS},
)
orders = st.builds(
    amounts,
    price=st.sampled_from([D(50000), D(59000), D(60000), D(90000)]),
    quantity=st.sampled_from([D("0.00001"), D("0.01"), D("0.1"), D(50)]),
)
usages = st.builds(
    Usage,
    open_orders=st.sampled_from([0, 49, 50]),
    orders_this_second=st.sampled_from([0, 5]),
    orders_today=st.sampled_from([0, 1000]),
    notional_today=AMOUNTS,
    loss_today=AMOUNTS,
    position=AMOUNTS,
    identical_orders=st.sampled_from([0, 5]),
)
trades = st.builds(
    LastTrade,
    price=st.sampled_from([D(50000), D(60000)]),
    traded_at=st.sampled_from([LAST.traded_at, NOW - timedelta(hours=1)]),
    asked_at=st.just(LAST.asked_at),
)


def passes(
    limits: list[Limits],
    order: OrderAmounts,
    usage: Usage,
    last: LastTrade,
    *,
    is_live: bool,
    rules: InstrumentRules,
) -> bool:
    """Return whether the firm's limits let the order through, as `decide` asks them."""
    if is_live:
        limits = with_live_defaults(
            limits, quote_asset=rules.quote_asset, in_money=rules.quote_asset == "USDT"
        )
    if check_limits(limits, rules, order, last, NOW):
        return False
    return not any(check_usage(row, usage, rules, order, last) for row in limits)


def may_loosen(new: Limits, limits: list[Limits], *, is_live: bool, quote_asset: str) -> bool:
    """Return whether the row sets a field that is limited already, in its scope and currency.

    For a live account the built-in limits are limits of the whole account in any currency.
    """
    if new.currency != quote_asset:
        return False
    before = [row for row in limits if row.scope == new.scope]
    if is_live and new.scope == ("", ""):
        before.append(LIVE_DEFAULTS)
    return any(
        getattr(new, field) is not None and getattr(row, field) is not None
        for row in before
        for field in FIELDS
    )


ANYTHING: dict[str, st.SearchStrategy[Any]] = {
    "limits": st.lists(rows, max_size=4),
    "new": rows,
    "order": orders,
    "usage": usages,
    "last": trades,
    "is_live": st.booleans(),
    "quote_asset": st.sampled_from(["USDT", "BTC"]),
}


def check_adding(
    limits: list[Limits],
    new: Limits,
    order: OrderAmounts,
    usage: Usage,
    last: LastTrade,
    is_live: bool,
    quote_asset: str,
) -> None:
    rules = replace(RULES, quote_asset=quote_asset)
    if may_loosen(new, limits, is_live=is_live, quote_asset=quote_asset):
        return
    if passes([*limits, new], order, usage, last, is_live=is_live, rules=rules):
        assert passes(limits, order, usage, last, is_live=is_live, rules=rules)


@given(**ANYTHING)
@example(  # 3,000,000 USDT passed, because a limit in euros took away the built-in one
    limits=[Limits(id=1, currency="USDT", max_daily_loss=D(10) ** 9)],
    new=Limits(id=2, currency="EUR", max_order_notional=D(100)),
    order=amounts(price=D(60000), quantity=D(50)),
    usage=Usage(),
    last=LAST,
    is_live=True,
    quote_asset="USDT",
)
@example(  # a strategy that the bot names itself
    limits=[],
    new=Limits(id=2, strategy=STRATEGY, currency="USDT", max_order_notional=D(10) ** 9),
    order=amounts(price=D(60000), quantity=D(50)),
    usage=Usage(),
    last=LAST,
    is_live=True,
    quote_asset="USDT",
)
@example(  # a loss limit in the order's currency made up for a missing notional limit
    limits=[Limits(id=1, currency="EUR", max_order_notional=D(100))],
    new=Limits(id=2, currency="USDT", max_daily_loss=D(10) ** 9),
    order=amounts(price=D(60000), quantity=D(50)),
    usage=Usage(),
    last=LAST,
    is_live=False,
    quote_asset="USDT",
)
@hypothesis_settings(max_examples=300)
def test_limits__adding_one_never_lets_more_through(**drawn: Any) -> None:
    check_adding(**drawn)


@pytest.mark.long
@given(**ANYTHING)
@hypothesis_settings(max_examples=1500)
def test_limits__adding_one_to_many_more_never_lets_more_through(**drawn: Any) -> None:
    check_adding(**drawn)


@given(row=rows, order=orders, usage=usages, last=trades)
@hypothesis_settings(max_examples=500)
def test_limits__only_a_row_for_the_whole_account_loosens_a_live_account(
    row: Limits, order: OrderAmounts, usage: Usage, last: LastTrade
) -> None:
    if row.scope != ("", "") and passes([row], order, usage, last, is_live=True, rules=RULES):
        assert passes([], order, usage, last, is_live=True, rules=RULES)


@pytest.mark.parametrize(
    ("row", "allowed"),
    [
        ({"max_order_notional": D(10) ** 7}, True),
        ({"max_order_notional": D(10) ** 7, "currency": "EUR"}, False),
        ({"max_order_notional": D(10) ** 7, "symbol": SYMBOL}, False),
        ({"max_order_notional": D(10) ** 7, "strategy": STRATEGY}, False),
        ({"max_notional_per_day": D(10) ** 7}, False),
    ],
)
def test_limits__the_built_in_cap_yields_to_its_own_field_currency_and_scope_only(
    row: dict[str, Any], allowed: bool
) -> None:
    order = amounts(price=D(60000), quantity=D(50))
    limits = [Limits(**{"id": 1, "currency": "USDT", **row})]
    assert passes(limits, order, Usage(), LAST, is_live=True, rules=RULES) is allowed
