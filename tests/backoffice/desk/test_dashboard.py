"""The desk: its verdict and figures, each for the people who may see it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice.desk.overview.charts import read_charts
from backoffice.duty_states import duty_states
from backoffice.people.models import AccountGrant
from exchanges import breakers, clock
from exchanges.db.duty_runs import stamp_run, stamp_runs
from exchanges.duties import SWEEP
from exchanges.models import DutyRun, ExchangeAccount, StreamState, TradingHalt, TradingState
from exchanges.scoped_halts import halt_scope
from orders.models import Position, Status
from tests.factories import (
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    InstrumentFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)
from tests.harness.redis import TestRedis

pytestmark = pytest.mark.django_db


@pytest.fixture
def grid(redis_server: TestRedis) -> ExchangeAccount:
    """Return an account of which nothing is wrong."""
    account = ExchangeAccountFactory(name="grid-1")
    stream_of(account)
    InstrumentFactory()
    run_duties()
    return account


def run_duties() -> None:
    """Let every duty have run just now."""
    accounts = [*ExchangeAccount.objects.values_list("pk", flat=True)]
    for state in duty_states():
        stamp_runs(state.duty, accounts) if state.account else stamp_run(state.duty)


def stream_of(account: ExchangeAccount) -> None:
    now = clock.now()
    StreamState.objects.create(account=account, in_sync_since=now, alive_at=now, lag_ms=23)


def troubles(client: Client, query: str = "") -> list[str]:
    return [trouble.text for trouble in client.get(f"/admin/{query}").context["troubles"]]


def test_verdict__is_all_well(boss: Client, grid: ExchangeAccount) -> None:
    OrderFactory(account=grid, status=Status.PENDING_NEW)  # just sent
    response = boss.get("/admin/")
    assert response.context["troubles"] == []
    assert "All well: 1 account trades" in response.content.decode()


def test_verdict__names_each_trouble_the_gravest_first_with_its_page(
    boss: Client, grid: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    long_ago = now - timedelta(minutes=3, seconds=7)
    OrderFactory(account=grid, status=Status.PENDING_NEW, created_at=long_ago)
    ReconciliationBreakFactory(account=grid)
    ReconciliationBreakFactory(account=grid, resolved_at=clock.now())
    other = ExchangeAccountFactory(
        name="other", trading_state=TradingState.HALTED, trading_state_reason="too much lost"
    )
    stream_of(other)
    ExchangeAccountFactory(name="asleep", is_enabled=False, last_synced_at=None)
    ExchangeAccountFactory(name="silent", last_synced_at=None)
    breakers.force_breaker(account=grid, kind="place", state="open", reason="drill", actor="anna")
    TradingHalt.objects.update(is_halted=True, reason="drill", changed_by="anna")
    halt_scope(account=grid, symbol="BTCUSDT", strategy="", reason="odd", actor="eva")
    run_duties()
    DutyRun.objects.filter(account=grid, duty=SWEEP).update(ran_at=long_ago)
    assert troubles(boss) == [
        "All trading is halted by anna: drill",
        "These duties stand still: orders.sweep_account of grid-1. Check beat and the workers.",
        "grid-1: 1 unresolved order, oldest 3 min 7 s",
        "other is halted: too much lost",
        "silent: never synced",
        "grid-1: the breaker of place is open",
        "grid-1: 1 open break",
        "Halted by eva: symbol BTCUSDT, account grid-1: odd",
        "silent: the user stream isn't in sync",
    ]
    for trouble in boss.get("/admin/").context["troubles"]:
        assert boss.get(trouble.link).status_code == 200, trouble
    assert troubles(boss, "?account=other") == [
        "All trading is halted by anna: drill",
        "other is halted: too much lost",
    ]


def test_verdict__says_that_redis_is_away(
    boss: Client, grid: ExchangeAccount, redis_server: TestRedis
) -> None:
    redis_server.stop()
    assert troubles(boss)[0].startswith("Redis doesn't answer")


def test_card__has_the_accounts_figures(boss: Client, grid: ExchangeAccount) -> None:
    now = clock.now()
    for status in (Status.FILLED, Status.FILLED, Status.DENIED, Status.REJECTED, Status.NEW):
        OrderFactory(account=grid, status=status)
    OrderFactory(account=grid, status=Status.FILLED, created_at=now - timedelta(days=1, seconds=1))
    OrderFactory(account=grid, status=Status.PENDING_NEW, created_at=now - timedelta(seconds=12))
    OrderFactory(account=grid, status=Status.CREATED)
    FillFactory(exchange_order__order__account=grid, exchange_order__order__status=Status.FILLED)
    Position.objects.create(
        account=grid,
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        quantity=Decimal("0.5"),
        cost=Decimal(25_000),
        day=now.date(),
        day_realised=Decimal("42.5"),
        day_fees={"BNB": "0.01"},
        fee_prices={"BNB": "500"},
        last_price=Decimal(50_400),
        priced_at=now,
    )
    (card,) = boss.get("/admin/").context["cards"]
    figures = card["figures"]
    assert (figures.open, figures.in_flight, figures.unresolved) == (1, 1, 2)
    assert card["in_flight_age"] == "12 s"
    assert {duty["name"] for duty in card["duties"]} == {"sweep_account", "apply_halt_rules"}
    assert (figures.denied, figures.rejected, figures.fills) == (1, 1, 1)
    assert card["notional"] == ["1500.00 USDT"]
    assert card["results"] == [{"realized": "37.50 USDT", "unrealized": "200.00 USDT"}]
    Position.objects.update(fee_prices={})
    (unknown,) = boss.get("/admin/").context["cards"]
    assert unknown["results"][0]["realized"] == "unknown: a commission has no price"
    for name in ("open_link", "unresolved_link", "denied_link", "rejected_link", "today_link"):
        assert boss.get(card[name]).status_code == 200


def test_today__links_to_as_many_orders_as_it_counts(boss: Client, grid: ExchangeAccount) -> None:
    OrderFactory.create_batch(3, account=grid, status=Status.FILLED)
    OrderFactory(account=grid, status=Status.FILLED, created_at=clock.now() - timedelta(days=1.1))
    today = boss.get("/admin/").context["today"]
    assert {row["label"]: row["count"] for row in today}["filled"] == 3
    for row in today:
        assert len(boss.get(row["link"]).context["cl"].result_list) == row["count"], row


def test_charts__count_by_minute_and_rank_latencies(grid: ExchangeAccount) -> None:
    now = clock.now()
    for milliseconds in (10, 20, 30):
        order = OrderFactory(account=grid, status=Status.FILLED, created_at=now)
        own = ExchangeOrderFactory(
            order=order, acknowledged_at=now + timedelta(milliseconds=milliseconds)
        )
        FillFactory(exchange_order=own, traded_at=now)
    OrderFactory(account=ExchangeAccountFactory(), status=Status.FILLED, created_at=now)
    charts = read_charts(now, [grid.pk])
    assert [line[-1] for line in charts["pace"][1:]] == [3, 3]
    assert sum(charts["pace"][1]) == 3
    assert [line[-1] for line in charts["latency"][1:]] == [20.0, 29.0, 29.8]
    assert charts["latency"][1][0] is None
    assert charts["stages"]["answered"] == [20.0, 29.0, 29.8]


def test_desk__takes_a_fixed_number_of_queries(boss: Client, grid: ExchangeAccount) -> None:
    def grow(count: int) -> int:
        for number in range(count):
            order = OrderFactory(account=grid, status=Status.FILLED, symbol=f"S{number}USDT")
            FillFactory(exchange_order=ExchangeOrderFactory(order=order))
            OrderEventFactory(order=order)
            ReconciliationBreakFactory(account=grid)
        stream_of(ExchangeAccountFactory())
        boss.get("/admin/")
        with CaptureQueriesContext(connection) as queries:
            boss.get("/admin/")
        return len(queries)

    assert grow(2) == grow(30) <= 36


@pytest.mark.parametrize("part", ["now", "charts", "tape"])
def test_part__is_a_page_of_its_own_for_those_who_may_see_it(
    boss: Client, client: Client, grid: ExchangeAccount, part: str
) -> None:
    OrderEventFactory(order__account=grid)
    page = boss.get(f"/admin/live/{part}/?account=grid-1").content.decode()
    assert f'id="desk-{part}"' in page
    assert "grid-1" in page or part == "charts"
    client.force_login(User.objects.create_user("new", is_staff=True))
    assert "grid-1" not in client.get(f"/admin/live/{part}/").content.decode()
    client.logout()
    assert client.get(f"/admin/live/{part}/").status_code == 302


def test_part__that_does_not_exist_is_not_found(boss: Client) -> None:
    assert boss.get("/admin/live/nothing/").status_code == 404


def test_desk__shows_no_orders_without_their_permission(
    client: Client, grid: ExchangeAccount
) -> None:
    person = User.objects.create_user("watch", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_exchangeaccount"))
    AccountGrant.objects.create(account=grid, person=person)
    client.force_login(person)
    long_ago = clock.now() - timedelta(hours=1)
    OrderFactory(
        account=grid, intent_id="secret-intent", status=Status.PENDING_NEW, created_at=long_ago
    )
    ReconciliationBreakFactory(account=grid)
    html = client.get("/admin/").content.decode()
    assert "grid-1" in html
    for hidden in ("secret-intent", "unresolved order", "open break", "Traded today"):
        assert hidden not in html, hidden


def test_desk__shows_nothing_to_staff_without_permissions(client: Client) -> None:
    client.force_login(User.objects.create_user("new", is_staff=True))
    OrderFactory(intent_id="secret-intent")
    html = client.get("/admin/").content.decode()
    assert "secret-intent" not in html
    assert "Unresolved" not in html
