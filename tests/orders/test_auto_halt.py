"""Test halts by rule on either side of each limit, and the breaker on a real outage."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.breakers import force_breaker
from exchanges.limits import redis as shared
from exchanges.limits.breaker import breaker_key
from exchanges.models import ExchangeAccount, TradingState
from exchanges.trading_state import halt_trading, resume_trading
from exchanges.types import CallKind
from orders.auto_halt import apply_halt_rules
from orders.models import (
    AttemptOutcome,
    BreakKind,
    ExchangeOrder,
    Order,
    ReconciliationBreak,
    RiskLimit,
)
from tests import steps
from tests.factories import (
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    InstrumentFactory,
    OrderFactory,
)
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def owner(redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    monkeypatch.setattr(shared, "_away_until", 0.0)  # an earlier test had no Redis
    InstrumentFactory()
    account: ExchangeAccount = ExchangeAccountFactory(name="desk")
    return account


def state(account: ExchangeAccount) -> tuple[str, str]:
    account.refresh_from_db()
    return account.trading_state, account.trading_state_reason


def breaks() -> list[tuple[str, str, bool]]:
    rows = ReconciliationBreak.objects.filter(kind=BreakKind.HALTED_BY_RULE).order_by("pk")
    return [(row.account.name, row.subject, row.resolved_at is None) for row in rows]


def lose_ten(account: ExchangeAccount) -> None:
    now = clock.now()
    for side, price in (("BUY", D(100)), ("SELL", D(90))):
        attempt = ExchangeOrderFactory(
            order=OrderFactory(account=account, status="FILLED", side=side)
        )
        FillFactory(
            exchange_order=attempt,
            side=side,
            quantity=D(1),
            price=price,
            commission=D(0),
            traded_at=now,
        )


def unanswered(account: ExchangeAccount, count: int, **changes: Any) -> None:
    for _ in range(count):
        order = OrderFactory(account=account, status="PENDING_NEW")
        given = {"outcome": AttemptOutcome.UNKNOWN, "sent_at": clock.now(), **changes}
        ExchangeOrderFactory(order=order, **given)


def test_apply_halt_rules__halts_from_the_loss_on_that_is_over_the_limit(
    owner: ExchangeAccount,
) -> None:
    lose_ten(owner)
    row = RiskLimit.objects.create(account=owner, max_daily_loss=D(10))
    other = ExchangeAccountFactory(name="other")
    RiskLimit.objects.create(account=other, max_daily_loss=D(0))
    assert apply_halt_rules() == {"accounts": 2, "halted": 0}
    row.max_daily_loss = D("9.99")
    row.save()
    assert apply_halt_rules() == {"accounts": 2, "halted": 1}
    reason = "by rule: today's realized loss is 10, at most 9.99 USDT are allowed"
    assert state(owner) == ("HALTED", reason)
    assert state(other)[0] == "ACTIVE"
    assert breaks() == [("desk", "daily-loss", True)]


@pytest.mark.parametrize(("count", "expected"), [(2, "ACTIVE"), (3, "HALTED")])
def test_apply_halt_rules__halts_from_so_many_unresolved_orders_on(
    owner: ExchangeAccount, settings: Settings, count: int, expected: str
) -> None:
    settings.HALT_UNRESOLVED_ORDERS = 3
    unanswered(owner, count)
    apply_halt_rules()
    assert state(owner)[0] == expected
    if expected == "HALTED":
        assert owner.trading_state_reason == "by rule: 3 orders have no answer, 3 halt the account"


def test_apply_halt_rules__a_request_on_its_way_is_not_unresolved(
    owner: ExchangeAccount, settings: Settings
) -> None:
    settings.HALT_UNRESOLVED_ORDERS = 1
    unanswered(owner, 5, outcome=AttemptOutcome.IN_FLIGHT)
    apply_halt_rules()
    assert state(owner)[0] == "ACTIVE"
    long_ago = clock.now() - timedelta(milliseconds=django_settings.EXCHANGE_REQUEST_TIMEOUT_MS + 1)
    ExchangeOrder.objects.update(sent_at=long_ago)
    apply_halt_rules()
    assert state(owner)[0] == "HALTED"


def test_apply_halt_rules__zero_switches_a_rule_off(
    owner: ExchangeAccount, settings: Settings
) -> None:
    settings.HALT_UNRESOLVED_ORDERS = 0
    unanswered(owner, 3)
    assert apply_halt_rules()["halted"] == 0


def test_apply_halt_rules__halts_once_and_lifts_nothing(
    owner: ExchangeAccount, settings: Settings
) -> None:
    settings.HALT_UNRESOLVED_ORDERS = 1
    unanswered(owner, 1)
    assert [apply_halt_rules()["halted"] for _ in range(3)] == [1, 0, 0]
    Order.objects.update(status="NEW")
    apply_halt_rules()
    assert state(owner)[0] == "HALTED", "the cause is gone, the halt is a person's to lift"
    assert breaks() == [("desk", "unresolved-orders", True)]
    resume_trading(account=owner, reason="looked into", actor="eva")
    apply_halt_rules()
    assert state(owner)[0] == "ACTIVE"
    assert breaks() == [("desk", "unresolved-orders", False)]


def test_apply_halt_rules__leaves_a_persons_reason(
    owner: ExchangeAccount, settings: Settings
) -> None:
    settings.HALT_UNRESOLVED_ORDERS = 1
    unanswered(owner, 1)
    halt_trading(account=owner, reason="lunch", actor="eva")
    apply_halt_rules()
    assert (state(owner), breaks()) == (("HALTED", "lunch"), [])


def test_apply_halt_rules__an_account_that_only_reduces_is_halted_too(
    owner: ExchangeAccount, settings: Settings
) -> None:
    settings.HALT_UNRESOLVED_ORDERS = 1
    ExchangeAccount.objects.update(trading_state=TradingState.REDUCING)
    unanswered(owner, 1)
    apply_halt_rules()
    assert state(owner)[0] == "HALTED"


# -- the breaker ---------------------------------------------------------------------------------


submit = partial(steps.submit, quantity="0.001", place_within_seconds=60)


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Return a list whose one item is how far our clock is ahead."""
    ahead, real = [timedelta(0)], clock.now

    def now() -> datetime:
        return real() + ahead[0]

    monkeypatch.setattr(clock, "now", now)
    return ahead


@pytest.mark.usefixtures("redis_server")
def test_apply_halt_rules__an_outage_that_keeps_the_breaker_open_halts_the_account(
    account: ExchangeAccount,
    simulator: Simulator,
    settings: Settings,
    moving: list[timedelta],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "_away_until", 0.0)
    settings.HALT_BREAKER_OPEN_SECONDS = 60
    settings.BREAKER_OPEN_SECONDS = 0.2
    settings.HALT_UNRESOLVED_ORDERS = 0
    submit("i-0")
    simulator.control.set_maintenance(True)
    for number in range(1, settings.BREAKER_FAILURES + 3):
        submit(f"i-{number}")
    assert apply_halt_rules()["halted"] == 0
    moving[0] = timedelta(seconds=59)
    assert apply_halt_rules()["halted"] == 0
    moving[0] = timedelta(seconds=61)
    assert apply_halt_rules()["halted"] == 1
    assert state(account)[1].startswith("by rule: placing has failed for 6")
    assert submit("after").reason_code == "HALTED"

    simulator.control.set_maintenance(False)
    resume_trading(account=account, reason="it answers again", actor="eva")
    assert apply_halt_rules()["halted"] == 0, (
        "its time starts again: an order has to go for the breaker to close"
    )
    wait_for(
        lambda: submit(f"again-{clock.monotonic()}").status == "NEW",
        timeout=20,
        what="the breaker has healed",
    )
    assert apply_halt_rules()["halted"] == 0
    moving[0] = timedelta(seconds=200)
    assert apply_halt_rules()["halted"] == 0


def test_apply_halt_rules__a_breaker_that_heals_in_time_counts_from_zero(
    owner: ExchangeAccount, settings: Settings, moving: list[timedelta], redis_server: TestRedis
) -> None:
    settings.HALT_BREAKER_OPEN_SECONDS = 60
    key = breaker_key("desk", CallKind.PLACE)
    for start in (0, 100):
        redis_server.client().hset(key, "open", "1")
        for seconds in (0, 50):
            moving[0] = timedelta(seconds=start + seconds)
            assert apply_halt_rules()["halted"] == 0
        redis_server.client().hdel(key, "open")
        assert apply_halt_rules()["halted"] == 0


def test_apply_halt_rules__a_breaker_that_a_person_holds_open_is_no_failure(
    owner: ExchangeAccount, settings: Settings, moving: list[timedelta]
) -> None:
    settings.HALT_BREAKER_OPEN_SECONDS = 60
    force_breaker(account=owner, kind="place", state="open", reason="drill", actor="eva")
    apply_halt_rules()
    moving[0] = timedelta(seconds=1000)
    assert apply_halt_rules()["halted"] == 0


def test_apply_halt_rules__a_redis_that_is_away_ends_nothing(
    owner: ExchangeAccount, settings: Settings, moving: list[timedelta], redis_server: TestRedis
) -> None:
    settings.HALT_BREAKER_OPEN_SECONDS = 60
    redis_server.client().hset(breaker_key("desk", CallKind.PLACE), "open", "1")
    apply_halt_rules()
    redis_server.stop()
    moving[0] = timedelta(seconds=61)
    assert apply_halt_rules()["halted"] == 0
    redis_server.start()
    redis_server.client().hset(breaker_key("desk", CallKind.PLACE), "open", "1")
    assert apply_halt_rules()["halted"] == 1
