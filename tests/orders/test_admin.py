"""The blotter and one order's page, as people with different permissions get them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from exchanges import clock
from exchanges.models import TradingHalt
from orders import states
from orders.admin import BigTable
from orders.desk.paging import CappedPaginator
from orders.models import EventType, ExchangeOrder, Fill, Order, OrderEvent, ReconciliationBreak, Status
from tests.factories import (
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    InstrumentFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LIST = "/admin/orders/order/"
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
RECORDS = (Order, ExchangeOrder, Fill, OrderEvent, ReconciliationBreak)


@pytest.fixture
def boss(client: Client) -> Client:
    """A client signed in with every permission."""
    client.force_login(User.objects.create_superuser("boss"))
    return client


def shown(client: Client, **query: str) -> list[str]:
    """Intent ids that the list shows for this query, in its order."""
    response = client.get(LIST, query)
    assert response.status_code == 200
    return [order.intent_id for order in response.context["cl"].result_list]


def page_of(order: Order) -> str:
    return reverse("admin:orders_order_change", args=[order.pk])


# -- The list ------------------------------------------------------------------------------------------------------


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
    assert counts[0] == counts[1] <= 12


def test_order_list__shows_decimals_plainly(boss: Client) -> None:
    OrderFactory(quantity=Decimal("0.00000010"), price=Decimal("123456789.500000"), status=Status.NEW)
    html = boss.get(LIST).content.decode()
    assert ">0.0000001<" in html
    assert ">123456789.5<" in html
    assert "E-" not in html


def test_order_list__has_the_newest_first(boss: Client) -> None:
    now = clock.now()
    for name, age in (("middle", 20), ("old", 30), ("new", 10)):
        OrderFactory(intent_id=name, created_at=now - timedelta(seconds=age))
    assert shown(boss) == ["new", "middle", "old"]


def test_order_list__unresolved_shows_the_longest_wait_first_with_age_and_next_check(boss: Client) -> None:
    now = clock.now()
    OrderFactory(intent_id="fresh", status=Status.PENDING_NEW, created_at=now - timedelta(seconds=5))
    OrderFactory(intent_id="waits", status=Status.CREATED, created_at=now - timedelta(minutes=61))
    OrderFactory(intent_id="works", status=Status.NEW)
    assert shown(boss, phase="unresolved") == ["waits", "fresh"]
    html = boss.get(LIST, {"phase": "unresolved"}).content.decode()
    assert "1 h 1 min" in html
    assert "Next check" in html
    assert "Next check" not in boss.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("phase", "statuses"),
    [("unresolved", states.UNSETTLED), ("open", states.OPEN), ("closed", states.CLOSED), ("", {*Status})],
)
def test_order_list__filters_by_phase(boss: Client, phase: str, statuses: set[str]) -> None:
    for status in Status:
        OrderFactory(intent_id=status.value, status=status)
    assert set(shown(boss, phase=phase)) == {str(status) for status in statuses}


def test_order_list__filters_by_a_wish_to_cancel(boss: Client) -> None:
    OrderFactory(intent_id="wished", status=Status.NEW, cancel_requested_at=clock.now())
    OrderFactory(intent_id="done", status=Status.CANCELED, cancel_requested_at=clock.now())
    OrderFactory(intent_id="other", status=Status.NEW)
    assert shown(boss, phase="cancel_wished") == ["wished"]


def test_order_list__filters_by_status_account_symbol_strategy_side_and_time(boss: Client) -> None:
    noon = clock.now().replace(hour=12, minute=0, second=0, microsecond=0)
    wanted = OrderFactory(
        intent_id="it", status=Status.NEW, symbol="ETHUSDT", strategy="trend", side="SELL", created_at=noon
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
        rest = {"status": Status.NEW, "symbol": "ETHUSDT", "strategy": "trend", "side": "SELL", "created_at": noon}
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
        assert len(shown(boss, **{key: value for key, value in query.items() if key != left_out})) == 2, left_out
    assert len(shown(boss, **{key: value for key, value in query.items() if "created" not in key})) == 2


def test_order_list__takes_a_date_without_a_time_as_the_whole_day(boss: Client) -> None:
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for name, offset in (("before", -1), ("first", 0), ("last", 86_400_000_000 - 1), ("after", 86_400_000_000)):
        OrderFactory(intent_id=name, created_at=midnight + timedelta(microseconds=offset))
    day = f"{midnight:%Y-%m-%d}"
    assert shown(boss, created_at_from_0=day, created_at_to_0=day) == ["last", "first"]
    assert shown(boss, created_at_from_0=day) == ["after", "last", "first"]


def test_order_list__refuses_what_is_no_date(boss: Client) -> None:
    response = boss.get(LIST, {"created_at_from_0": "yesterday"})
    assert (response.status_code, response.headers["Location"]) == (302, f"{LIST}?e=1")


def test_order_list__never_counts_further_than_the_cap(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CappedPaginator, "CAP", 3)
    OrderFactory.create_batch(5)
    with CaptureQueriesContext(connection) as queries:
        response = boss.get(LIST)
    assert response.context["cl"].result_count == 3
    assert "Only the first 3 are paged" in response.content.decode()
    counting = [query["sql"] for query in queries if "COUNT(" in query["sql"] and 'FROM "orders_order"' in query["sql"]]
    assert all("LIMIT 3" in sql or "status" in sql for sql in counting)


# -- Search --------------------------------------------------------------------------------------------------------


def test_order_search__finds_by_any_of_the_ids(boss: Client) -> None:
    InstrumentFactory()
    fill = FillFactory(exchange_order__order__intent_id="bot-7:entry.1")
    FillFactory()
    ids = (
        "bot-7:entry.1",
        "bot-7:e",
        str(fill.order_id),
        fill.order_id.hex,
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


def test_order_search__prefers_the_exact_id_to_its_longer_kin(boss: Client) -> None:
    for name in ("grid-1", "grid-10", "grid-11"):
        OrderFactory(intent_id=name)
    assert shown(boss, q="grid-1") == ["grid-1"]
    assert set(shown(boss, q="grid-")) == {"grid-1", "grid-10", "grid-11"}


@pytest.mark.parametrize("text", ["%", "100%", "_rid", "GRID", "x" * 300, "'; --", "rid-1", "gr"])
def test_order_search__finds_nothing_by_wildcards_middles_or_nonsense(boss: Client, text: str) -> None:
    OrderFactory(intent_id="grid-1")
    assert shown(boss, q=text) == []


def test_order_search__takes_a_null_character_for_no_search(boss: Client) -> None:
    assert boss.get(LIST, {"q": "\x00"}).status_code == 200  # the admin's own form refuses it


def test_order_search__reads_no_whole_table(boss: Client) -> None:
    """Every look-up of the search is by an index, whatever the number of rows."""
    InstrumentFactory()
    fill = FillFactory()
    with CaptureQueriesContext(connection) as queries:
        shown(boss, q=f"{fill.trade_id} {fill.exchange_order.exchange_order_id} some-intent")
    wanted = ("intent_id", "client_order_id", "exchange_order_id", "trade_id")
    lookups = [query["sql"] for query in queries if any(f'"{name}" = ' in query["sql"] for name in wanted)]
    assert len(lookups) >= 4 * 3
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        for sql in lookups:
            cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + sql)
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
            for table in ("orders_order", "orders_exchangeorder", "orders_fill"):
                assert f"Seq Scan on {table}" not in plan, plan
                assert f"SCAN {table}" not in plan, plan


# -- One order -----------------------------------------------------------------------------------------------------


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
        ({"status": Status.CREATED}, "It is sent, unless its deadline passes first"),
        ({"status": Status.CREATED, "cancel_requested_at": clock.now()}, "It is withdrawn, without being sent"),
        ({"status": Status.CREATED, "place_by": clock.now()}, "Its deadline has passed"),
        ({"status": Status.PENDING_NEW}, "asked for it by its client order id"),
        ({"status": Status.PENDING_NEW, "cancel_requested_at": clock.now()}, "Then it is canceled, as wished"),
        ({"status": Status.NEW}, "It works at the exchange"),
        ({"status": Status.NEW, "cancel_requested_at": clock.now()}, "asked for until the exchange has confirmed"),
        ({"status": Status.REJECTED}, "Nothing more is due"),
        ({"status": Status.FILLED, "next_check_at": clock.now()}, "One more look at the exchange is due"),
    ],
)
def test_order_page__says_what_happens_next(boss: Client, changes: dict[str, object], says: str) -> None:
    order = OrderFactory(**changes)
    html = boss.get(page_of(order)).content.decode()
    assert says in html
    assert ("Next check:" in html) == (order.next_check_at is not None)


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
    assert counts[0] == counts[1] <= 25


@pytest.mark.parametrize("address", ["/admin/orders/order/not-an-id/change/", "/admin/orders/order/12/cancel/"])
def test_order_page__of_no_order_is_no_error(boss: Client, address: str) -> None:
    assert boss.get(address).status_code in (302, 404)


# -- Safety --------------------------------------------------------------------------------------------------------


def test_admin__escapes_what_the_exchange_and_bots_write(boss: Client) -> None:
    order = OrderFactory(
        status=Status.REJECTED, reason_code=HOSTILE[:64], reason=HOSTILE, strategy=HOSTILE[:64], symbol=HOSTILE[:32]
    )
    request = ExchangeOrderFactory(order=order, exchange_status=HOSTILE[:32], exchange_order_id=HOSTILE[:64])
    FillFactory(exchange_order=request, quantity=1, price=1, commission_asset=HOSTILE[:32], trade_id=HOSTILE[:64])
    OrderEventFactory(order=order, actor=HOSTILE, source=HOSTILE[:16], details={HOSTILE: HOSTILE})
    ReconciliationBreakFactory(
        account=order.account, order=order, subject=HOSTILE, resolution=HOSTILE, details={"said": HOSTILE}
    )
    pages = ("/admin/", LIST, page_of(order), "/admin/orders/fill/", "/admin/orders/orderevent/")
    for address in (*pages, "/admin/orders/reconciliationbreak/"):
        html = boss.get(address).content.decode()
        assert "<script>alert" not in html, address
        assert "<img src=x" not in html, address
    assert "&lt;script&gt;alert" in boss.get(page_of(order)).content.decode()


def test_admin__offers_no_way_to_add_change_or_delete_records(boss: Client) -> None:
    fill = FillFactory()
    ReconciliationBreakFactory(account=fill.account)
    event = OrderEventFactory(order=fill.order)
    rows = {"order": fill.order_id, "fill": fill.pk, "orderevent": event.pk}
    for model, pk in rows.items():
        assert boss.get(f"/admin/orders/{model}/add/").status_code == 403
        assert boss.get(f"/admin/orders/{model}/{pk}/change/").status_code == 200
        assert boss.post(f"/admin/orders/{model}/{pk}/change/", {"reason": "mine", "status": "NEW"}).status_code == 403
        assert boss.post(f"/admin/orders/{model}/{pk}/delete/", {"post": "yes"}).status_code == 403
        assert "delete_selected" not in boss.get(f"/admin/orders/{model}/").content.decode()
    fill.order.refresh_from_db()
    assert fill.order.status == Status.FILLED


def test_admin__registers_the_records_read_only() -> None:
    from django.contrib import admin

    for model in RECORDS:
        page = admin.site._registry.get(model)
        assert page is None or isinstance(page, BigTable)


# -- The front page ------------------------------------------------------------------------------------------------


def test_dashboard__shows_the_days_figures(boss: Client) -> None:
    OrderFactory.create_batch(3, status=Status.FILLED)
    OrderFactory(status=Status.FILLED, created_at=clock.now() - timedelta(days=1, seconds=1))
    OrderFactory(status=Status.PENDING_NEW, created_at=clock.now() - timedelta(minutes=3, seconds=7))
    ReconciliationBreakFactory()
    ReconciliationBreakFactory(resolved_at=clock.now())
    TradingHalt.objects.update(is_halted=True, reason="drill", changed_by="anna")
    response = boss.get("/admin/")
    context = response.context
    assert {row["label"]: row["count"] for row in context["today"]}["filled"] == 3
    assert context["unresolved"] == {"count": 1, "oldest": "3 min 7 s"}
    assert context["open_breaks"] == 1
    assert "All trading is halted by anna: drill" in response.content.decode()
    for row in context["today"]:
        assert len(boss.get(row["link"]).context["cl"].result_list) == row["count"], row


def test_dashboard__takes_a_fixed_number_of_queries(boss: Client) -> None:
    OrderFactory.create_batch(2)
    with CaptureQueriesContext(connection) as few:
        boss.get("/admin/")
    OrderFactory.create_batch(40)
    with CaptureQueriesContext(connection) as many:
        boss.get("/admin/")
    assert len(few) == len(many) <= 14


def test_dashboard__shows_nothing_to_staff_without_permissions(client: Client) -> None:
    client.force_login(User.objects.create_user("new", is_staff=True))
    OrderFactory(intent_id="secret-intent")
    html = client.get("/admin/").content.decode()
    assert "secret-intent" not in html
    assert "Unresolved" not in html
