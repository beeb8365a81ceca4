"""The shared limits are asked before the claim: a refusal leaves nothing that has to be undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.limits import breaker as breakers
from exchanges.limits import budget as limits
from exchanges.limits import redis as shared
from exchanges.limits import sizes
from exchanges.limits.budget import Budget, OrderLimit
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading
from exchanges.types import CallKind
from orders import services
from orders.intents import IntentConflict, parse_intent
from orders.models import ExchangeOrder, Order, OrderEvent
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis

pytestmark = pytest.mark.django_db
MOST = 3


@pytest.fixture(autouse=True)
def _limited(redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three orders in ten minutes, all in one window."""
    monkeypatch.setattr(shared, "_away_until", 0.0)
    monkeypatch.setattr(shared, "_is_required", True)
    budget = Budget(6000, (OrderLimit(600, MOST),))
    monkeypatch.setattr(sizes, "budget_of", lambda account: budget)
    monkeypatch.setattr(limits, "_keys", in_one_window(limits._keys))


def in_one_window(keys: Any) -> Any:
    return lambda request, budget, now_ms: keys(request, budget, 1_700_000_000_000)


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "1000000"}).installed() as exchange:
        yield exchange


@pytest.fixture
def account(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


def submit(intent_id: str = "i-1", **changes: str) -> Order:
    given = {"intent_id": intent_id, "account": "demo", "symbol": "BTCUSDT", "side": "BUY",
             "order_type": "LIMIT", "quantity": "0.001", "price": "40000"}  # fmt: skip
    return services.submit_order(parse_intent({**given, **changes}, now=clock.now()))


def counted() -> int:
    keys = shared.client().keys("backoffice:limits:orders:*")
    return int(shared.client().get(keys[0]) or 0) if keys else 0


@pytest.mark.usefixtures("account")
def test_submit_order__a_refusal_leaves_no_attempt_and_one_event(exchange: FakeExchange) -> None:
    for number in range(MOST):
        assert submit(f"i-{number}").status == "NEW"

    waiting = submit("late")
    for _ in range(10):
        services.place_order(waiting.pk, is_due=True)

    waiting.refresh_from_db()
    assert (waiting.status, waiting.attempt) == ("CREATED", 0)
    assert not ExchangeOrder.objects.filter(order=waiting).exists()
    kinds = [event.event_type for event in OrderEvent.objects.filter(order=waiting).order_by("id")]
    assert kinds == ["CREATED", *["WAITING"] * 11]
    assert len(exchange.calls_of("place")) == MOST


@pytest.mark.usefixtures("account", "exchange")
def test_submit_order__a_refusal_names_the_moment_of_the_next_try() -> None:
    for number in range(MOST):
        submit(f"i-{number}")

    waiting = submit("late")

    assert waiting.next_check_at is not None
    pause = (waiting.next_check_at - clock.now()).total_seconds()
    left = 600 - 1_700_000_000 % 600
    assert left - 1 < pause < left * 1.2 + 1


@pytest.mark.usefixtures("exchange")
def test_submit_order__a_denial_gives_the_permit_back(account: ExchangeAccount) -> None:
    submit()
    halt_trading(account=account, reason="drill", actor="test")

    assert [submit(f"denied-{number}").status for number in range(MOST)] == ["DENIED"] * MOST

    assert counted() == 1


@pytest.mark.usefixtures("exchange")
def test_submit_order__a_halt_denies_at_once_what_the_limits_refuse(
    account: ExchangeAccount,
) -> None:
    for number in range(MOST):
        submit(f"i-{number}")
    waiting = submit("stored")
    halt_trading(account=account, reason="drill", actor="test")

    assert (submit("new").status, submit("i-0").status) == ("DENIED", "NEW")
    assert services.place_order(waiting.pk, is_due=True).reason_code == "HALTED"


@pytest.mark.usefixtures("account", "exchange")
def test_submit_order__a_known_intent_and_a_conflict_give_the_permit_back() -> None:
    submit()
    for _ in range(MOST):
        assert submit().status == "NEW"
    with pytest.raises(IntentConflict):
        submit(quantity="0.002")

    assert counted() == 1


@pytest.mark.usefixtures("account")
def test_submit_order__a_wait_for_the_gate_gives_the_permit_back(exchange: FakeExchange) -> None:
    submit()
    exchange.set_status("BTCUSDT", "BREAK")
    exchange.answer("place", 400, -1013, "Market is closed.")
    submit("closed")
    assert counted() == 2

    assert submit("waits").status == "CREATED"

    assert counted() == 2


@pytest.mark.usefixtures("account", "exchange")
def test_submit_order__a_lost_claim_gives_the_permit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from orders.placing import claim_together

    submit()

    def lose(*_: Any) -> Any:
        raise RuntimeError("lost")

    monkeypatch.setattr(claim_together, "claim", lose)
    with pytest.raises(RuntimeError):
        submit("i-2")

    assert counted() == 1


@pytest.mark.usefixtures("account")
def test_submit_order__a_denial_frees_the_breakers_probe(
    exchange: FakeExchange, settings: Settings
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_SECONDS = 1, 0.01
    exchange.lose_answer("place", executed=False)
    assert submit().status == "PENDING_NEW"
    clock.sleep(0.05)

    denied = submit("denied", price="1")

    assert denied.status == "DENIED"
    assert submit("i-2").status == "NEW"
    assert not shared.client().exists(breakers.breaker_key("demo", CallKind.PLACE) + ":probe")


@pytest.mark.usefixtures("account")
def test_submit_order__asks_redis_and_the_database_so_often(
    exchange: FakeExchange, redis_server: TestRedis
) -> None:
    for number in range(2):
        submit(f"warm-{number}")
    del exchange.calls[:]
    before = scripts_run(redis_server)

    with CaptureQueriesContext(connection) as captured:
        submit()

    # Each fake gateway measures the exchange's clock for itself.
    asked = scripts_run(redis_server) - before - len(exchange.calls_of("fetch_time"))
    claimed = [
        query["sql"]
        for query in captured
        if "FOR SHARE OF h" in query["sql"] or "orders_exchangeorder" in query["sql"]
    ]
    assert (asked, len(claimed)) == (REDIS_CALLS, 3)  # the gate, the claim's writes, the answer's


REDIS_CALLS = 2  # the permit, and the note of the claim


def scripts_run(redis_server: TestRedis) -> int:
    with redis_server.client() as client:
        stats: Any = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))
