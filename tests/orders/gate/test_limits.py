"""Test each limit on either side of its boundary, then through the gate with earlier orders."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from exchanges import clock
from exchanges.instrument_rules import InstrumentRules
from exchanges.mirror.balances import sync_balances
from exchanges.models import Balance, ExchangeAccount, LastPrice, Reservation
from exchanges.types import OrderType, Side
from orders import services
from orders.gate import limits as risk_limits
from orders.gate.decide import ClaimContext
from orders.gate.limits import (
    LIVE_DEFAULTS,
    LastTrade,
    Limits,
    Usage,
    check_limits,
    check_usage,
    needs_price,
    with_live_defaults,
)
from orders.models import RiskLimit
from orders.placing.claim import Claim, claim
from tests.harness.simulator import Simulator
from tests.orders.gate.test_checks import RULES, amounts
from tests.steps import make_intent, submit

D = Decimal
NOW = clock.now()
LAST = LastTrade(D(60000), NOW - timedelta(seconds=60), NOW)
MARKET: dict[str, Any] = {"order_type": OrderType.MARKET, "price": None}


def code(
    row: Limits, *, last: LastTrade | None = LAST, rules: InstrumentRules = RULES, **changes: Any
) -> str | None:
    denial = check_limits([row], rules, amounts(**changes), last, NOW)
    return denial.code if denial else None


@pytest.mark.parametrize(
    ("row", "changes", "expected"),
    [
        (Limits(currency="USDT", max_order_notional=D(600)), {}, None),
        (Limits(currency="USDT", max_order_notional=D("599.99")), {}, "LIMIT_ORDER_NOTIONAL"),
        (
            Limits(currency="USDT", max_order_notional=D(630)),
            MARKET,
            None,
        ),  # 0.01 at 60000, and 5 % more
        (Limits(currency="USDT", max_order_notional=D("629.99")), MARKET, "LIMIT_ORDER_NOTIONAL"),
        (
            Limits(currency="USDT", max_order_notional=D(630)),
            {**MARKET, "last": None},
            "PRICE_UNKNOWN",
        ),
        (Limits(currency="", max_order_notional=D(600)), {}, None),
        (Limits(currency="BTC", max_order_notional=D(600)), {}, "LIMIT_CURRENCY"),
        (Limits(currency="BTC", max_daily_loss=D(600)), {}, "LIMIT_CURRENCY"),
        (
            Limits(currency="USDT", max_daily_loss=D(600)),
            {**MARKET, "last": None},
            None,
        ),  # this limit needs no value
        (Limits(allowed_symbols="ETHUSDT BTCUSDT"), {}, None),
        (Limits(allowed_symbols="btc/usdt,ETHUSDT"), {}, None),
        (Limits(allowed_symbols="ETHUSDT"), {}, "SYMBOL_NOT_ALLOWED"),
        (Limits(max_price_distance=D(1)), {"price": D("60600")}, None),
        (Limits(max_price_distance=D(1)), {"price": D("60600.01")}, "LIMIT_PRICE_DISTANCE"),
        (Limits(max_price_distance=D(1)), {"price": D("59400")}, None),
        (Limits(max_price_distance=D(1)), {"price": D("59399.99")}, "LIMIT_PRICE_DISTANCE"),
        (Limits(max_price_distance=D(1), max_price_age=60), {}, None),
        (Limits(max_price_distance=D(1), max_price_age=59), {}, "PRICE_TOO_OLD"),
        (Limits(max_price_distance=D(1), max_price_age=59), {"side": Side.SELL}, None),
        (Limits(max_price_distance=D(1)), {"last": None}, "PRICE_UNKNOWN"),
        (Limits(max_price_distance=D(1)), MARKET, None),  # no price of its own
    ],
)
def test_check_limits__either_side_of_each_boundary(
    row: Limits, changes: dict[str, Any], expected: str | None
) -> None:
    assert code(row, **changes) == expected


def test_check_limits__the_tightest_row_wins() -> None:
    wide, tight = (Limits(currency="USDT", max_order_notional=D(n)) for n in (1000, 500))
    denial = check_limits([wide, tight], RULES, amounts(), LAST, NOW)
    assert denial is not None
    assert denial.text == "notional would be 600, at most 500 USDT are allowed"


@pytest.mark.parametrize(
    ("row", "usage", "changes", "expected"),
    [
        (Limits(max_open_orders=3), Usage(open_orders=2), {}, None),
        (Limits(max_open_orders=3), Usage(open_orders=3), {}, "LIMIT_OPEN_ORDERS"),
        (Limits(max_open_orders=0), Usage(), {}, "LIMIT_OPEN_ORDERS"),
        (Limits(max_orders_per_second=3), Usage(orders_this_second=2), {}, None),
        (
            Limits(max_orders_per_second=3),
            Usage(orders_this_second=3),
            {},
            "LIMIT_ORDERS_PER_SECOND",
        ),
        (Limits(max_orders_per_day=3), Usage(orders_today=2), {}, None),
        (Limits(max_orders_per_day=3), Usage(orders_today=3), {}, "LIMIT_ORDERS_PER_DAY"),
        (Limits(max_notional_per_day=D(1000)), Usage(notional_today=D(400)), {}, None),
        (
            Limits(max_notional_per_day=D(1000)),
            Usage(notional_today=D("400.01")),
            {},
            "LIMIT_NOTIONAL_PER_DAY",
        ),
        (Limits(currency="USDT", max_daily_loss=D(100)), Usage(loss_today=D(100)), {}, None),
        (
            Limits(currency="USDT", max_daily_loss=D(100)),
            Usage(loss_today=D("100.01")),
            {},
            "LIMIT_DAILY_LOSS",
        ),
        (Limits(currency="USDT", max_daily_loss=D(0)), Usage(loss_today=D(-5)), {}, None),  # a gain
        (
            Limits(currency="USDT", max_daily_loss=D(1)),
            Usage(loss_today=D(2)),
            {"side": Side.SELL},
            "LIMIT_DAILY_LOSS",
        ),
        (
            Limits(currency="BTC", max_daily_loss=D(1)),
            Usage(loss_today=D(2)),
            {},
            None,
        ),  # another row's currency
        (Limits(max_position=D("0.5")), Usage(position=D("0.49")), {}, None),
        (Limits(max_position=D("0.5")), Usage(position=D("0.491")), {}, "LIMIT_POSITION"),
        (
            Limits(max_position=D("0.5")),
            Usage(position=D(9)),
            {"side": Side.SELL},
            None,
        ),  # a sale lowers it
        (Limits(max_identical_orders=2), Usage(identical_orders=1), {}, None),
        (Limits(max_identical_orders=2), Usage(identical_orders=2), {}, "LIMIT_REPEATED_ORDER"),
    ],
)
def test_check_usage__either_side_of_each_boundary(
    row: Limits, usage: Usage, changes: dict[str, Any], expected: str | None
) -> None:
    denial = check_usage(row, usage, RULES, amounts(**changes), LAST)
    assert (denial.code if denial else None) == expected


def test_with_live_defaults__fill_only_what_no_row_sets() -> None:
    assert with_live_defaults([], quote_asset="USDT", in_money=True) == [LIVE_DEFAULTS]
    row = Limits(id=1, currency="USDT", max_order_notional=D(5000))
    own, built_in = with_live_defaults([row], quote_asset="USDT", in_money=True)
    assert own is row
    assert built_in.max_order_notional is None
    assert built_in.max_open_orders == LIVE_DEFAULTS.max_open_orders


def test_with_live_defaults__a_built_in_amount_is_one_of_money() -> None:
    in_btc = replace(RULES, symbol="ETHBTC", base_asset="ETH", quote_asset="BTC")
    asked = amounts(price=D("0.05"), quantity=D(1))
    last = replace(LAST, price=D("0.05"))
    built_in = with_live_defaults([], quote_asset="BTC", in_money=False)
    denial = check_limits(built_in, in_btc, asked, last, NOW)
    assert denial is not None
    assert (denial.code, denial.text) == (
        "LIMIT_CURRENCY",
        "limits are set in money, but none in BTC (max_order_notional)",
    )
    own = with_live_defaults(
        [Limits(id=1, currency="BTC", max_order_notional=D("0.05"))],
        quote_asset="BTC",
        in_money=False,
    )
    assert check_limits(own, in_btc, asked, last, NOW) is None


def test_needs_price__only_where_a_limit_measures_by_it() -> None:
    assert not needs_price([Limits(max_open_orders=1)], amounts())
    assert not needs_price([Limits(max_order_notional=D(1))], amounts())
    assert needs_price([Limits(max_order_notional=D(1))], amounts(**MARKET))
    assert needs_price([Limits(max_price_distance=D(1))], amounts())


# -- through the gate ----------------------------------------------------------------------------


@pytest.fixture
def market(account: ExchangeAccount, simulator: Simulator) -> ExchangeAccount:
    simulator.control.set_price("BTCUSDT", "60000")
    return account


def last_price(price: str) -> None:
    LastPrice.objects.create(
        exchange="binance",
        environment="simulator",
        symbol="BTCUSDT",
        price=D(price),
        traded_at=clock.now(),
        asked_at=clock.now(),
    )


class TestGate:
    pytestmark = pytest.mark.django_db

    @pytest.mark.parametrize(
        ("limits", "denied_as"),
        [
            ({"max_order_notional": D("499.99")}, ["LIMIT_ORDER_NOTIONAL"]),
            ({"max_open_orders": 1}, ["", "LIMIT_OPEN_ORDERS"]),
            ({"max_orders_per_second": 1}, ["", "LIMIT_ORDERS_PER_SECOND"]),
            ({"max_orders_per_day": 1}, ["", "LIMIT_ORDERS_PER_DAY"]),
            ({"max_notional_per_day": D(1000)}, ["", "", "LIMIT_NOTIONAL_PER_DAY"]),
            ({"max_identical_orders": 1, "identical_window": 600}, ["", "LIMIT_REPEATED_ORDER"]),
            ({"max_open_orders": 1, "symbol": "ETHUSDT"}, ["", ""]),
            ({"max_open_orders": 1, "symbol": "BTCUSDT"}, ["", "LIMIT_OPEN_ORDERS"]),
            ({"max_open_orders": 1, "strategy": "other"}, ["", ""]),
            ({"max_open_orders": 1, "strategy": "grid"}, ["", "LIMIT_OPEN_ORDERS"]),
        ],
    )
    def test_submit_order__keeps_to_the_rows(
        self,
        market: ExchangeAccount,
        monkeypatch: pytest.MonkeyPatch,
        limits: dict[str, Any],
        denied_as: list[str],
    ) -> None:
        # One second for all of them, however slow the machine is.
        RiskLimit.objects.create(account=market, **limits)
        if "max_orders_per_second" in limits:
            now = clock.now()
            monkeypatch.setattr(clock, "now", lambda: now)
        given = [submit(f"i-{number}", strategy="grid") for number in range(len(denied_as))]
        assert [order.reason_code for order in given] == denied_as
        assert [order.status for order in given] == [
            "DENIED" if code else "NEW" for code in denied_as
        ]

    def test_submit_order__a_position_counts_open_buys(self, market: ExchangeAccount) -> None:
        sync_balances(market)
        held = Balance.objects.get(account=market, asset="BTC").free
        RiskLimit.objects.create(account=market, max_position=held + D("0.02"))
        assert [submit(f"i-{n}").reason_code for n in range(3)] == ["", "", "LIMIT_POSITION"]

    def test_submit_order__a_position_counts_open_buys_on_every_symbol_of_the_asset(
        self, market: ExchangeAccount
    ) -> None:
        sync_balances(market)
        RiskLimit.objects.create(account=market, max_position=D("0.3"))
        simple = {"symbol": "ETHUSDT", "quantity": "0.2", "price": "2000"}
        assert submit("i-1", **simple).status == "NEW"
        over = submit("i-2", symbol="ETHBTC", quantity="0.2", price="0.04")
        assert (over.reason_code, over.reason) == (
            "LIMIT_POSITION",
            "position would be 0.4, at most 0.3 ETH are allowed",
        )
        assert submit("i-3", symbol="ETHBTC", quantity="0.1", price="0.04").status == "NEW"

    def test_submit_order__only_on_allowed_symbols(self, market: ExchangeAccount) -> None:
        RiskLimit.objects.create(account=market, allowed_symbols="ETHUSDT, BNBUSDT")
        denied = submit("i-1")
        assert (denied.status, denied.reason_code) == ("DENIED", "SYMBOL_NOT_ALLOWED")
        assert submit("i-2", symbol="ETHUSDT", quantity="0.1", price="2000").status == "NEW"

    def test_submit_order__far_from_the_last_trade(self, market: ExchangeAccount) -> None:
        RiskLimit.objects.create(account=market, max_price_distance=D(1))
        last_price("50500")
        assert submit("i-1").status == "NEW"
        far = submit("i-2", price="49994")
        assert (far.status, far.reason_code) == ("DENIED", "LIMIT_PRICE_DISTANCE")
        assert (
            far.reason
            == "price 49994 is 1.002 % away from the last trade at 50500, at most 1 % are allowed"
        )

    def test_submit_order__asks_for_the_last_trade_where_a_limit_needs_it(
        self, market: ExchangeAccount, simulator: Simulator
    ) -> None:
        RiskLimit.objects.create(account=market, max_price_distance=D(100), max_price_age=10**6)
        submit("i-1")
        assert simulator.control.truth().requests.get("GET /api/v3/aggTrades") == 1
        assert LastPrice.objects.get().symbol == "BTCUSDT"

    def test_submit_order__without_rows_nothing_is_asked_or_refused(
        self, market: ExchangeAccount, simulator: Simulator
    ) -> None:
        assert {submit(f"i-{n}").status for n in range(8)} == {"NEW"}
        assert "GET /api/v3/aggTrades" not in simulator.control.truth().requests

    def test_submit_order__reserves_for_a_market_buy_by_the_last_trade(
        self, market: ExchangeAccount
    ) -> None:
        last_price("60000")
        sync_balances(market)
        free = Balance.objects.get(account=market, asset="USDT").free
        denied = submit(
            "i-1", order_type="MARKET", price=None, quantity=str(round(free / 60000, 3))
        )
        assert (denied.status, denied.reason_code) == ("DENIED", "INSUFFICIENT_BALANCE")

    @pytest.mark.parametrize(
        ("limits", "most"),
        [
            ([], 2),
            ([{"max_order_notional": D(10**6)}], 2),
            (
                [
                    {"max_open_orders": 50, "max_orders_per_second": 50, "max_orders_per_day": 50},
                    {
                        "symbol": "BTCUSDT",
                        "max_notional_per_day": D(10**6),
                        "max_position": D(10**6),
                    },
                    {"strategy": "grid", "max_identical_orders": 50, "max_open_orders": 50},
                ],
                3,
            ),
            ([{"max_daily_loss": D(10)}], 4),
        ],
    )
    def test_claim__reads_and_reserves_by_two_statements_and_counts_by_one_more(
        self, market: ExchangeAccount, limits: list[dict[str, Any]], most: int
    ) -> None:
        for row in limits:
            RiskLimit.objects.create(account=market, **row)
        for number in range(2):
            submit(f"i-{number}", strategy="grid")
        intent = make_intent("i-2", strategy="grid")
        context = ClaimContext(
            account_id=market.pk,
            environment=market.environment,
            exchange_now_ms=clock.now_ms(),
            signed_at=clock.monotonic(),
            started_at=clock.now(),
            fetched=frozenset(),
        )
        with CaptureQueriesContext(connection) as captured:
            assert isinstance(claim(intent, context), Claim)
        sent = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
        assert 1 < len(sent) <= most, sent
        assert Reservation.objects.filter(amount=500).count() == 3

    def test_submit_order__counts_what_was_sent_under_each_row_alone(
        self, market: ExchangeAccount
    ) -> None:
        RiskLimit.objects.create(account=market, max_open_orders=3)
        RiskLimit.objects.create(account=market, strategy="grid", max_open_orders=1)
        RiskLimit.objects.create(account=market, symbol="BTCUSDT", max_notional_per_day=D(1000))
        sent = [
            submit("i-1", strategy="grid"),
            submit("i-2", strategy="grid"),
            submit("i-3", strategy="trend"),
            submit("i-4", strategy="trend"),
            submit("i-5", strategy="trend", symbol="ETHUSDT", quantity="0.1", price="1000"),
            submit("i-6", strategy="trend", symbol="ETHUSDT", quantity="0.1", price="1000"),
        ]
        codes = ["", "LIMIT_OPEN_ORDERS", "", "LIMIT_NOTIONAL_PER_DAY", "", "LIMIT_OPEN_ORDERS"]
        assert [order.reason_code for order in sent] == codes

    def test_submit_order__a_canceled_order_counts_as_filled_in_the_notional_of_the_day(
        self, market: ExchangeAccount
    ) -> None:
        RiskLimit.objects.create(account=market, max_notional_per_day=D(1000))
        assert [submit(f"i-{n}").reason_code for n in range(3)] == [
            "",
            "",
            "LIMIT_NOTIONAL_PER_DAY",
        ]
        services.cancel_order(account="demo", intent_id="i-0")
        assert submit("i-3").status == "NEW"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_row", [False, True])
def test_submit_order__parallel_claims_count_right_also_under_the_built_in_limits(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, has_row: bool
) -> None:
    """Send 24 identical orders at once: five pass, whether the live account has a row or not."""
    for name, value in simulator.environment("desk").items():
        monkeypatch.setenv(name, value)
    desk = ExchangeAccount.objects.create(name="desk", environment="live")
    ExchangeAccount.objects.update(trading_state="ACTIVE")
    if has_row:
        RiskLimit.objects.create(account=desk, max_identical_orders=5)
    simulator.control.set_price("BTCUSDT", "60000")
    given = {"account": "desk", "price": "59000", "place_within_seconds": 60}
    # It fetches the prerequisites, and differs from the others.
    assert submit("first", **given, quantity="0.001").status == "NEW"
    monkeypatch.setattr(
        risk_limits, "LIVE_DEFAULTS", replace(LIVE_DEFAULTS, max_orders_per_second=None)
    )
    start = threading.Barrier(8)

    def bot(number: int) -> list[str]:
        start.wait()
        try:
            return [submit(f"i-{number}-{n}", **given).reason_code for n in range(3)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        codes = [code for answers in pool.map(bot, range(8)) for code in answers]
    assert Counter(codes) == {"": 5, "LIMIT_REPEATED_ORDER": 19}
    assert simulator.control.truth().accepted_total() == 6
