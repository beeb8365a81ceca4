"""The blotter, the search and the page of one order."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backoffice.desk.admin.orders import OrderAdmin
from backoffice.desk.lists.paging import BigTable, PageTurner
from backoffice.people.models import AccountGrant
from exchanges import clock
from exchanges.models import LastPrice, MidPrice
from orders import states
from orders.models import (
    AttemptOutcome,
    EventType,
    Order,
    Status,
)
from tests.benchmarks.many_orders import fill_book
from tests.factories import (
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)

pytestmark = pytest.mark.django_db

LIST = "/admin/orders/order/"


def shown(client: Client, **query: str) -> list[str]:
    """Return the intent IDs on the list for this query, in its order."""
    response = client.get(LIST, query)
    assert response.status_code == 200
    return [order.intent_id for order in response.context["cl"].result_list]


def page_of(order: Order) -> str:
    return reverse("admin:orders_order_change", args=[order.pk])


# -- The list ------------------------------------------------------------------------------------


def test_order_list__takes_the_same_number_of_queries_for_any_number_of_rows(boss: Client) -> None:
    counts = []
    for number in (5, 45):
        for _ in range(number):
            FillFactory(exchange_order__order__status=Status.FILLED)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert len(shown(boss)) == min(Order.objects.count(), BigTable.list_per_page)
        counts.append(len(queries))
    assert Order.objects.count() == 50
    assert counts[0] == counts[1] <= 16


def test_order_list__shows_decimals_plainly(boss: Client) -> None:
    OrderFactory(
        quantity=Decimal("0.00000010"), price=Decimal("123456789.500000"), status=Status.NEW
    )
    html = boss.get(LIST).content.decode()
    assert ">0.0000001<" in html
    assert ">123456789.5<" in html
    assert "E-" not in html


def test_order_list__has_the_newest_first(boss: Client) -> None:
    now = clock.now()
    for name, age in (("middle", 20), ("old", 30), ("new", 10)):
        OrderFactory(intent_id=name, created_at=now - timedelta(seconds=age))
    assert shown(boss) == ["new", "middle", "old"]


def test_order_list__unresolved_shows_the_longest_wait_first_with_age_and_next_check(
    boss: Client,
) -> None:
    now = clock.now()
    OrderFactory(
        intent_id="fresh", status=Status.PENDING_NEW, created_at=now - timedelta(seconds=5)
    )
    OrderFactory(intent_id="waits", status=Status.CREATED, created_at=now - timedelta(minutes=61))
    OrderFactory(intent_id="works", status=Status.NEW)
    assert shown(boss, phase="unresolved") == ["waits", "fresh"]
    html = boss.get(LIST, {"phase": "unresolved"}).content.decode()
    assert "1 h 1 min" in html
    assert "Next check</th>" in html
    assert "Next check</th>" not in boss.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("phase", "statuses"),
    [
        ("unresolved", states.UNRESOLVED),
        ("open", states.OPEN),
        ("closed", states.CLOSED),
        ("", {*Status}),
    ],
)
def test_order_list__filters_by_phase(boss: Client, phase: str, statuses: set[str]) -> None:
    for status in Status:
        OrderFactory(intent_id=status.value, status=status)
    assert set(shown(boss, phase=phase)) == {str(status) for status in statuses}


def test_order_list__filters_by_a_cancel_request(boss: Client) -> None:
    OrderFactory(intent_id="requested", status=Status.NEW, cancel_requested_at=clock.now())
    OrderFactory(intent_id="done", status=Status.CANCELED, cancel_requested_at=clock.now())
    OrderFactory(intent_id="other", status=Status.NEW)
    assert shown(boss, phase="cancel_wished") == ["requested"]


def test_order_list__filters_by_status_account_symbol_strategy_side_and_time(boss: Client) -> None:
    noon = clock.now().replace(hour=12, minute=0, second=0, microsecond=0)
    wanted = OrderFactory(
        intent_id="it",
        status=Status.NEW,
        symbol="ETHUSDT",
        strategy="trend",
        side="SELL",
        created_at=noon,
    )
    ExchangeAccountFactory(name="another")
    for changed in (
        {"status": Status.FILLED},
        {"symbol": "BTCUSDT"},
        {"strategy": "grid"},
        {"side": "BUY"},
        {"created_at": noon - timedelta(days=2)},
        {"account__name": "another"},
    ):
        rest = {
            "status": Status.NEW,
            "symbol": "ETHUSDT",
            "strategy": "trend",
            "side": "SELL",
            "created_at": noon,
        }
        account = {} if "account__name" in changed else {"account": wanted.account}
        OrderFactory(**rest | account | changed)
    query = {
        "status": "NEW",
        "account__id__exact": str(wanted.account_id),
        "symbol": "eth/usdt",
        "strategy": "trend",
        "side__exact": "SELL",
        "created_at_from_0": f"{noon:%Y-%m-%d}",
        "created_at_from_1": "00:00:00",
        "created_at_to_0": f"{noon:%Y-%m-%d}",
        "created_at_to_1": "23:59:59",
    }
    assert shown(boss, **query) == ["it"]
    for left_out in ("status", "account__id__exact", "symbol", "strategy", "side__exact"):
        assert (
            len(shown(boss, **{key: value for key, value in query.items() if key != left_out})) == 2
        ), left_out
    assert (
        len(shown(boss, **{key: value for key, value in query.items() if "created" not in key}))
        == 2
    )


def test_order_list__takes_a_date_without_a_time_as_the_whole_day(boss: Client) -> None:
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for name, offset in (
        ("before", -1),
        ("first", 0),
        ("last", 86_400_000_000 - 1),
        ("after", 86_400_000_000),
    ):
        OrderFactory(intent_id=name, created_at=midnight + timedelta(microseconds=offset))
    day = f"{midnight:%Y-%m-%d}"
    assert shown(boss, created_at_from_0=day, created_at_to_0=day) == ["last", "first"]
    assert shown(boss, created_at_from_0=day) == ["after", "last", "first"]


def test_order_list__refuses_an_invalid_date(boss: Client) -> None:
    response = boss.get(LIST, {"created_at_from_0": "yesterday"})
    assert (response.status_code, response.headers["Location"]) == (302, f"{LIST}?e=1")


def test_order_list__turns_pages_without_a_count(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderAdmin, "list_per_page", 2)
    monkeypatch.setattr(PageTurner, "LAST_ROW", 4)
    now = clock.now()
    for number in range(7):
        OrderFactory(intent_id=f"n{number}", created_at=now - timedelta(seconds=number))
    with CaptureQueriesContext(connection) as queries:
        response = boss.get(LIST)
    rows = [one["sql"] for one in queries if 'FROM "orders_order"' in one["sql"]]
    assert 'rel="next"' in response.content.decode()
    assert shown(boss, p="2") == ["n2", "n3"]
    html = boss.get(LIST, {"p": "2"}).content.decode()
    assert "The list ends after 4 rows" in html
    assert boss.get(LIST, {"p": "3"}).status_code == 302  # no page beyond
    assert [sql for sql in rows if sql.endswith("LIMIT 3")]  # the page, and one row more
    counts = [sql for sql in rows if "COUNT(" in sql]
    assert all('"orders_order"."status" IN' in sql for sql in counts)  # a partial index has these


def test_order_list__shows_the_distance_of_open_limits_from_the_last_trade(boss: Client) -> None:
    account = ExchangeAccountFactory(name="demo")
    buy = {"account": account, "status": Status.NEW, "price": Decimal(50_000)}
    OrderFactory(intent_id="near", **buy)
    OrderFactory(intent_id="sell", **buy | {"side": "SELL", "price": Decimal(52_000)})
    OrderFactory(intent_id="closed", **buy | {"status": Status.CANCELED})
    OrderFactory(intent_id="unknown", **buy | {"symbol": "ETHUSDT"})
    LastPrice.objects.create(
        exchange=account.exchange,
        environment=account.environment,
        symbol="BTCUSDT",
        price=Decimal(51_000),
        traded_at=clock.now() - timedelta(minutes=5),
        asked_at=clock.now(),
    )
    rows = {row.intent_id: row for row in boss.get(LIST).context["cl"].result_list}
    assert f"{rows['near'].distance.percent:.2f}" == "1.96"  # the market must fall by that
    assert f"{rows['sell'].distance.percent:.2f}" == "1.96"
    assert rows["closed"].distance is rows["unknown"].distance is None
    html = boss.get(LIST).content.decode()
    assert re.search(r">5 min \d+ s</small>", html)  # the trade's age


def test_order_list__prefers_a_fresh_mid_and_otherwise_the_newer_price(boss: Client) -> None:
    account = ExchangeAccountFactory(name="demo")
    OrderFactory(account=account, status=Status.NEW, price=Decimal(50_000))
    market = {
        "exchange": account.exchange,
        "environment": account.environment,
        "symbol": "BTCUSDT",
    }
    now = clock.now()
    LastPrice.objects.create(
        **market, price=Decimal(50_500), traded_at=now - timedelta(seconds=30), asked_at=now
    )
    mid = MidPrice.objects.create(**market, bid=Decimal(50_990), ask=Decimal(51_010), asked_at=now)

    def shown() -> tuple[str, str]:
        response = boss.get(LIST)
        (row,) = response.context["cl"].result_list
        found = re.search(r'title="(mid|last trade) (\S+), [-0-9: ]+"', response.content.decode())
        assert found is not None
        return f"{row.distance.percent:.2f}", " ".join(found.groups())

    assert shown() == ("1.96", "mid 51000")
    mid.asked_at = now - timedelta(minutes=5)
    mid.save()
    assert shown() == ("0.99", "last trade 50500")
    LastPrice.objects.update(traded_at=now - timedelta(minutes=9))
    assert shown() == ("1.96", "mid 51000")
    html = boss.get(LIST).content.decode()
    assert re.search(r'<small data-age="3\d\d">5 min', html)  # an old figure is shown as old


def test_order_list__shows_states_with_a_sign_and_fills_as_a_bar(boss: Client) -> None:
    OrderFactory(status=Status.PARTIALLY_FILLED, quantity=Decimal(4))
    html = boss.get(LIST).content.decode()
    assert '<span aria-hidden="true">◐</span> partially filled' in html
    assert '<progress class="desk-bar" max="100" value="25" aria-label="filled: 25 %">' in html


def test_order_list__filters_by_type_and_origin(boss: Client) -> None:
    OrderFactory(intent_id="limit")
    OrderFactory(intent_id="market", order_type="MARKET")
    OrderFactory(intent_id="external:7", is_external=True)
    OrderFactory(intent_id="recovered:abc")
    OrderFactory(intent_id="hand-1", strategy="person:eva")
    OrderFactory(intent_id="hand-made-by-a-bot")
    OrderFactory(intent_id="held", status=Status.HELD)
    assert shown(boss, type="MARKET") == ["market"]
    assert shown(boss, origin="external") == ["external:7"]
    assert shown(boss, origin="recovered") == ["recovered:abc"]
    assert shown(boss, origin="by_hand") == ["hand-1"]
    assert shown(boss, phase="held") == ["held"]


def test_order_list__says_what_to_do_if_it_is_empty(boss: Client) -> None:
    assert "Each order of a bot appears here" in boss.get(LIST).content.decode()
    html = boss.get(LIST, {"symbol": "BTCUSDT"}).content.decode()
    assert "Nothing matches these filters" in html


# -- Search --------------------------------------------------------------------------------------


def test_order_search__finds_by_any_of_the_ids(boss: Client) -> None:
    fill = FillFactory(exchange_order__order__intent_id="bot-7:entry.1")
    FillFactory()
    ids = (
        "bot-7:entry.1",
        "bot-7:e",
        str(fill.order_id),
        fill.order_id.hex,
        fill.order_id.hex[:26],
        fill.exchange_order.client_order_id[:12],
        fill.exchange_order.client_order_id,
        fill.exchange_order.exchange_order_id,
        fill.trade_id,
        f"  {fill.trade_id}\n",
    )
    for text in ids:
        assert shown(boss, q=text) == ["bot-7:entry.1"], text


def test_order_search__finds_every_pasted_id(boss: Client) -> None:
    OrderFactory(intent_id="one")
    OrderFactory(intent_id="two")
    OrderFactory(intent_id="three")
    assert set(shown(boss, q="one, two;\n nothing-like-it")) == {"one", "two"}


def test_order_search__prefers_the_exact_id_to_longer_ones(boss: Client) -> None:
    for name in ("grid-1", "grid-10", "grid-11"):
        OrderFactory(intent_id=name)
    assert shown(boss, q="grid-1") == ["grid-1"]
    assert set(shown(boss, q="grid-")) == {"grid-1", "grid-10", "grid-11"}


def test_search__of_lists_is_not_narrowed_by_the_ids_of_other_accounts() -> None:
    mine, theirs = OrderFactory(intent_id="grid-12"), OrderFactory(intent_id="grid-1")
    for order in (mine, theirs):
        FillFactory(order=order, account=order.account, quantity=1)
        OrderEventFactory(order=order)
    assert mine.account != theirs.account
    anna = User.objects.create_user("anna", is_staff=True)
    anna.groups.add(Group.objects.get(name="Viewer"))
    AccountGrant.objects.create(account=mine.account, person=anna)
    client = Client()
    client.force_login(anna)
    for name in ("order", "fill", "orderevent"):
        page = client.get(f"/admin/orders/{name}/", {"q": "grid-1"}).content.decode()
        assert "grid-12" in page, name


@pytest.mark.parametrize("text", ["%", "100%", "_rid", "GRID", "x" * 300, "'; --", "rid-1", "gr"])
def test_order_search__finds_nothing_by_wildcards_middles_or_nonsense(
    boss: Client, text: str
) -> None:
    OrderFactory(intent_id="grid-1")
    assert shown(boss, q=text) == []


def test_order_search__refuses_a_null_character(boss: Client) -> None:
    assert boss.get(LIST, {"q": "\x00"}).status_code == 400  # PostgreSQL's text can't hold it


def test_order_search__reads_no_whole_table(boss: Client) -> None:
    """Check that an index serves every look-up of the search."""
    fill_book(500)
    with connection.cursor() as cursor:
        # The plan must not hang on what other tests have left in the statistics.
        cursor.execute("ANALYZE orders_order, orders_exchangeorder, orders_fill")
    with CaptureQueriesContext(connection) as queries:
        shown(boss, q="12345678 intent")
    [sql] = [one["sql"] for one in queries if "LATERAL" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + sql)
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    for table in ("orders_order", "orders_exchangeorder", "orders_fill"):
        assert f"Seq Scan on {table}" not in plan, plan
    for index in (
        "order_unique_intent",
        "exchange_order_unique_client_id",
        "exchange_order_unique_number",
        "fill_unique_trade_id",
    ):
        assert f"Index Scan using {index}" in plan or f"Index Only Scan using {index}" in plan, plan


# -- One order -----------------------------------------------------------------------------------


def test_order_page__shows_mapping_fills_events_and_breaks(boss: Client) -> None:
    fill = FillFactory(commission=Decimal("0.00001000"), commission_asset="BNB")
    order = fill.order
    OrderEventFactory(
        order=order,
        event_type=EventType.REPORT,
        actor="worker-3",
        previous_status="PENDING_NEW",
        new_status="FILLED",
        source="PLACE",
        details={"message": {"orderId": 123456, "text": "x" * 100}},
    )
    ReconciliationBreakFactory(account=order.account, order=order, subject="bo-something")
    html = boss.get(page_of(order)).content.decode()
    for text in (
        fill.exchange_order.client_order_id,
        fill.exchange_order.exchange_order_id,
        fill.trade_id,
        "0.00001</span> BNB",
        "worker-3",
        "sent, unconfirmed → filled",
        "&quot;orderId&quot;: 123456",
        "bo-something",
        "Nothing more is due",
    ):
        assert text in html, text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": Status.CREATED}, "The order will be sent, unless the gate denies it"),
        (
            {"status": Status.CREATED, "cancel_requested_at": clock.now()},
            "The order will be canceled without being sent",
        ),
        ({"status": Status.CREATED, "place_by": clock.now()}, "The deadline has passed"),
        ({"status": Status.PENDING_NEW}, "asks the exchange for its client order ID"),
        (
            {"status": Status.PENDING_NEW, "cancel_requested_at": clock.now()},
            "Then the order is canceled, as requested",
        ),
        ({"status": Status.NEW}, "The order is working at the exchange"),
        (
            {"status": Status.NEW, "cancel_requested_at": clock.now()},
            "sent again until the exchange confirms it",
        ),
        ({"status": Status.REJECTED}, "Nothing more is due"),
        (
            {"status": Status.FILLED, "next_check_at": clock.now()},
            "One more check at the exchange is due",
        ),
    ],
)
def test_order_page__says_what_happens_next(
    boss: Client, changes: dict[str, object], says: str
) -> None:
    order = OrderFactory(**changes)
    html = boss.get(page_of(order)).content.decode()
    assert says in html
    assert ("Next check:" in html) == (order.next_check_at is not None)


@pytest.mark.parametrize("outcome", AttemptOutcome.values)
def test_order_page__shows_an_attempt_of_every_outcome(boss: Client, outcome: str) -> None:
    request = ExchangeOrderFactory(outcome=outcome)
    response = boss.get(page_of(request.order))
    assert response.status_code == 200
    assert str(AttemptOutcome(outcome).label) in response.content.decode()


def test_order_page__has_constant_queries_for_many_fills_and_events(boss: Client) -> None:
    counts = []
    for number in (2, 30):
        request = ExchangeOrderFactory(order__status=Status.FILLED)
        for _ in range(number):
            FillFactory(exchange_order=request, quantity=Decimal("0.0001"))
            OrderEventFactory(order=request.order)
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(page_of(request.order)).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 31


@pytest.mark.parametrize(
    "address", ["/admin/orders/order/not-an-id/change/", "/admin/orders/order/12/cancel/"]
)
def test_order_page__of_no_order_is_no_error(boss: Client, address: str) -> None:
    assert boss.get(address).status_code in (302, 404)
