"""Reasons are stored in English, and a page shows them in the language of its reader."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation

from backoffice.desk.reasons import NAMES, SENTENCES, _patterns, shown_reason
from exchanges import clock
from exchanges.types import OrderType, Side
from orders.gate.checks import (
    Denial,
    check_balance,
    check_duties,
    check_filters,
    check_instrument,
    check_permission,
    check_reducing,
    quantize,
)
from orders.gate.decide import Prerequisite, money_is_reserved
from orders.gate.facts import _scoped_halt
from orders.gate.limits import (
    LastTrade,
    Limits,
    Usage,
    check_limits,
    check_loss,
    check_usage,
    with_live_defaults,
)
from orders.gate.review import ReviewThreshold, review_reason
from orders.models import Status
from tests.factories import OrderFactory
from tests.orders.gate.test_checks import RULES, amounts, permission

D = Decimal
NOW = clock.now()
LAST = LastTrade(D(60000), NOW - timedelta(seconds=60), NOW)
MARKET = amounts(order_type=OrderType.MARKET, price=None)
BY_QUOTE = replace(MARKET, quantity=None, quote_quantity=D(100))
HALTED_AT = "2026-11-30T20:00:00+00:00"
UNKNOWN = "but no balance is known yet"
WITHDRAWN = "canceled before it was sent"
ABSENT = (
    "not found at the exchange, and a cancel was requested",
    "no answer to the request, and not found at the exchange",
)
WENT_BACK = "the database went back in time, so the order waits until its past is read"
CONTENDED = "another worker is changing the order"
# Sentences of functions that need a database, as literals. A test below holds them equal.
STORED = (
    WITHDRAWN,
    *ABSENT,
    "no last trade on BTCUSDT is known, so neither is the cost of a market order",
    WENT_BACK,
    CONTENDED,
    "catch_up is still missing",
    *(f"waits for {fact.value}" for fact in Prerequisite),
    "waits for the symbol's rules",
    "would be sent as BUY BTCUSDT LIMIT quantity 1 price 2",
    "would wait for a second person: rule 7: 5 is above 1",
)


def _scoped(symbol: str, strategy: str) -> Denial | None:
    found = [symbol, strategy, "anna", HALTED_AT, "news at 20:15, see mail"]
    return check_permission(permission(scoped_halt=_scoped_halt(found)), Side.BUY)


def _alone(row: Limits, **changes: object) -> Denial | None:
    return check_limits([row], RULES, amounts(**changes), LAST, NOW)


def _used(row: Limits, usage: Usage) -> Denial | None:
    return check_usage(row, usage, RULES, amounts(), LAST)


def denials() -> list[Denial | None]:
    """Return one denial of each form, each made by the function of the gate."""
    usdt = Limits(currency="USDT")
    off = replace(RULES, status="BREAK_FOREVER")
    free = check_balance(RULES, amounts(), D(10))
    return [
        check_permission(permission(everything_halted=True, halt_reason="fl ood"), Side.BUY),
        check_permission(permission(is_enabled=False), Side.BUY),
        check_permission(
            permission(trading_state="HALTED", trading_state_reason="key: -2015"), Side.BUY
        ),
        _scoped("BTCUSDT", ""),
        _scoped("", "mean reversion"),
        _scoped("BTCUSDT", "mean reversion"),
        check_permission(
            permission(trading_state="REDUCING", trading_state_reason="risk"), Side.BUY
        ),
        check_reducing(
            permission(trading_state="REDUCING", trading_state_reason="risk"),
            replace(RULES, symbol="ETHBTC", quote_asset="BTC"),
            in_money=False,
        ),
        check_duties({"halt rules": 100}, 60),
        check_duties({"sweep": 100}, 60),
        check_instrument(None, "BTCUSDT", amounts()),
        check_instrument(off, "BTCUSDT", amounts()),
        check_instrument(RULES, "BTCUSDT", amounts(order_type=OrderType.STOP_LOSS)),
        check_instrument(replace(RULES, quote_order_quantity_allowed=False), "BTCUSDT", BY_QUOTE),
        _filters(quantity=D("0.0001")),
        _filters(quantity=D("0.001"), price=D(10)),
        _filters(quantity=D(101), price=D(10)),
        check_filters(RULES, amounts(price=D("1.001")), amounts(price=D("1.001"), quantity=D(10))),
        _alone(Limits(allowed_symbols="ETHUSDT SOLUSDT")),
        _alone(Limits(currency="BTC", max_order_notional=D(600))),
        _builtin_currency(),
        check_limits([replace(usdt, max_order_notional=D(1))], RULES, MARKET, None, NOW),
        check_limits([Limits(max_price_distance=D(1))], RULES, amounts(), None, NOW),
        _alone(Limits(max_price_distance=D(1), max_price_age=59)),
        _alone(Limits(max_price_distance=D(1)), price=D(70000)),
        _alone(replace(usdt, max_order_notional=D(599))),
        _used(Limits(max_open_orders=3), Usage(open_orders=3)),
        _used(Limits(max_orders_per_second=3), Usage(orders_this_second=3)),
        _used(Limits(max_orders_per_day=3), Usage(orders_today=3)),
        _used(replace(usdt, max_notional_per_day=D(700)), Usage(notional_today=D(600))),
        _used(Limits(max_position=D(1)), Usage(position=D(1))),
        _used(Limits(max_identical_orders=3), Usage(identical_orders=3)),
        check_loss(replace(usdt, max_daily_loss=D(100)), D(50), {"BNB", "XYZ"}),
        check_loss(replace(usdt, max_daily_loss=D(100)), D(101)),
        free,
        # As `orders.gate.decide` words it while no balance is known.
        Denial("BALANCE_UNKNOWN", f"{str(free and free.text).partition(',')[0]}, {UNKNOWN}"),
        # As `orders.gate.decide` and `orders.placing.holding` word deadlines.
        Denial("PAST_DEADLINE", f"not sent before the deadline {HALTED_AT}"),
        Denial("PAST_DEADLINE", f"nobody released it before the deadline {HALTED_AT}"),
    ]


def _filters(**changes: object) -> Denial | None:
    asked = amounts(**changes)
    return check_filters(RULES, asked, quantize(RULES, asked))


def _builtin_currency() -> Denial | None:
    rows = with_live_defaults([], quote_asset="BTC", in_money=False)
    return check_limits(rows, replace(RULES, quote_asset="BTC"), amounts(), LAST, NOW)


def reasons() -> list[str]:
    found = [denial.text for denial in denials() if denial is not None]
    assert len(found) == len(denials())  # each form is there
    thresholds = [(None, LAST), (D(1), None), (D(1), LAST)]
    held = [review_reason([ReviewThreshold(7, above)], MARKET, last) for above, last in thresholds]
    reserved = money_is_reserved("needs 600 USDT, but only 10 USDT is free").message
    return [*found, *held, *STORED, reserved]


def _form_of(text: str) -> str | None:
    return next((sentence for sentence, form in _patterns() if form.fullmatch(text)), None)


def test_shown_reason__every_reason_of_the_gate_is_shown_in_russian() -> None:
    with translation.override("ru"):
        same = [text for text in reasons() if shown_reason(text) == text]
    assert same == []


def test_shown_reason__every_sentence_is_one_that_the_code_says() -> None:
    assert {_form_of(text) for text in reasons()} == set(SENTENCES)


@pytest.mark.parametrize(
    ("module", "texts"),
    [
        ("orders/placing/record.py", [WITHDRAWN]),
        ("orders/sweep.py", [*ABSENT]),
        (
            "orders/gate/decide.py",
            [
                UNKNOWN,
                "not sent before the deadline ",
                "no last trade on ",
                " is known, so neither is the cost of a market order",
                WENT_BACK,
            ],
        ),
        ("orders/placing/recovered.py", [CONTENDED]),
        ("orders/placing/submit.py", [" is still missing", "waits for ", "the symbol's rules"]),
        ("orders/gate/preview.py", ["would be sent as ", "would wait for a second person: "]),
        ("orders/placing/holding.py", ["nobody released it before the deadline "]),
    ],
)
def test_shown_reason__literals_stand_in_the_code(module: str, texts: list[str]) -> None:
    source = Path(settings.BASE_DIR, module).read_text()
    assert [text for text in texts if text not in source] == []


def test_shown_reason__every_code_of_a_denial_has_a_case() -> None:
    """A new denial must be added above, so that its sentence is translated."""
    ours = {denial.code for denial in denials() if denial is not None}
    folder = Path(settings.BASE_DIR, "orders", "gate")
    calls = [
        node
        for path in sorted(folder.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Denial", "_over")
    ]
    said = {node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)}
    assert len(said) > 15
    assert said - ours == set()


def test_shown_reason__keeps_each_figure_and_the_words_of_people() -> None:
    with translation.override("ru"):
        shown = shown_reason(
            "price 70000 is 16.6667 % away from the last trade at 60000, at most 1 % are allowed"
        )
        for figure in ("70000", "16.6667 %", "60000", "1 %"):
            assert figure in shown
        assert shown_reason("the account is halted: see mail, {0} %s").endswith("see mail, {0} %s")
        unknown = "binance says: Filter failure: MAX_NUM_ORDERS"
        assert shown_reason(unknown) == unknown


def test_shown_reason__is_the_stored_text_in_english() -> None:
    assert [shown_reason(text) for text in reasons()] == reasons()


def test_shown_reason__translates_names_of_figures() -> None:
    with translation.override("ru"):
        assert [name for name in NAMES if translation.gettext(name) == name] == []
        assert {fact.value for fact in Prerequisite} <= set(NAMES)
        assert "notional" not in shown_reason("notional would be 600, at most 599 USDT are allowed")


@pytest.mark.django_db
def test_order__explains_itself_in_russian(admin_client: Client) -> None:
    text = "notional would be 2000, at most 1000 USDT are allowed"
    order = OrderFactory(status=Status.DENIED, reason_code="LIMIT_ORDER_NOTIONAL", reason=text)
    admin_client.post("/i18n/setlang/", {"language": "ru", "next": "/admin/"})
    with translation.override("ru"):
        shown = shown_reason(text)
    for address in (f"/admin/orders/order/{order.pk}/change/", "/admin/orders/order/"):
        html = admin_client.get(address).content.decode()
        assert shown in html
        assert text not in html
