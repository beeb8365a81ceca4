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
from backoffice.desk.overview.day import read_day
from backoffice.duty_states import duty_states
from backoffice.people.models import AccountGrant
from exchanges import breakers, clock
from exchanges.db.duty_runs import stamp_run, stamp_runs
from exchanges.duties import SWEEP
from exchanges.models import DutyRun, ExchangeAccount, StreamState, TradingHalt, TradingState
from exchanges.scoped_halts import halt_scope
from orders.models import Position, ResultSample, Status
from orders.positions.samples import SAMPLE, sample_of
from tests.benchmarks.many_orders import fill_book
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
        day_realized=Decimal("42.5"),
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


def sample(account: ExchangeAccount, ago: int, *figures: str | None, asset: str = "USDT") -> None:
    at = sample_of(clock.now()) - ago * SAMPLE
    names = ("realized", "unrealized", "exposure")
    values = {name: value and Decimal(value) for name, value in zip(names, figures, strict=True)}
    ResultSample.objects.create(account=account, at=at, quote_asset=asset, **values)


@pytest.fixture
def afternoon(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now().replace(hour=15, minute=2)
    monkeypatch.setattr("exchanges.clock.now", lambda: now)


@pytest.mark.usefixtures("afternoon")
def test_day__adds_up_the_accounts_and_leaves_gaps(grid: ExchangeAccount) -> None:
    other = ExchangeAccountFactory(name="other")
    sample(grid, 4, "1", "2", "100")
    for account in (grid, other):
        sample(account, 3, "-5", "1", "50")
    sample(grid, 2, "1", "1", "1")  # the other account's sample is missing
    sample(grid, 1, "2", None, None)
    sample(other, 1, "2", "1", "10")
    sample(grid, 300, "9", "9", "9")  # of yesterday
    sample(grid, 0, "7", "7", "7", asset="BTC")
    live = ExchangeAccountFactory(name="disabled", environment="live", is_enabled=False)
    sample(live, 0, "99", "99", "99")
    day = read_day(clock.now(), ExchangeAccount.objects.all())
    assert day is not None
    assert (day.asset, day.others) == ("USDT", ["BTC"])
    assert day.at[0] == (sample_of(clock.now()) - 4 * SAMPLE).timestamp()
    assert day.realized == [1, -10, None, 4, None]
    assert day.total == [3, -8, None, None, None]
    assert day.exposure == [100, 100, None, None, None]
    assert day.text("realized") == {
        "last": "4.00 USDT", "lowest": "-10.00 USDT", "highest": "4.00 USDT", "at": "14:55",
    }  # fmt: skip
    live.is_enabled = True
    live.save()
    assert read_day(clock.now(), ExchangeAccount.objects.all()).environment == "live"  # type: ignore[union-attr]


@pytest.mark.usefixtures("afternoon")
def test_desk__draws_the_day_with_words_beside_it(boss: Client, grid: ExchangeAccount) -> None:
    assert "Exposure" not in boss.get("/admin/").content.decode()
    sample(grid, 1, "-5.123", "1", "1250")
    html = boss.get("/admin/").content.decode()
    assert "Realized: -5.12 USDT at 14:55, lowest -5.12 USDT, highest -5.12 USDT." in html
    assert "With open positions: -4.12 USDT at 14:55" in html
    assert "Exposure: 1250.00 USDT at 14:55" in html
    client = Client()
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(
        Permission.objects.filter(codename__in=("view_order", "all_accounts"))
    )
    client.force_login(viewer)
    assert "Exposure" not in client.get("/admin/live/charts/").content.decode()


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

    assert grow(2) == grow(30) <= 37


def test_desk__counts_open_orders_by_the_indexes_of_open_orders(boss: Client) -> None:
    """Over a million orders this is the difference between 5 and 300 ms."""
    fill_book(2_000)
    with CaptureQueriesContext(connection) as queries:
        boss.get("/admin/")
    [sql] = [one["sql"] for one in queries if 'MIN("orders_order"."created_at")' in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE orders_order")
        cursor.execute("SET LOCAL enable_seqscan = off")  # the book is small
        cursor.execute("EXPLAIN " + sql)
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "order_open" in plan, plan
    assert "order_waiting" in plan, plan


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
