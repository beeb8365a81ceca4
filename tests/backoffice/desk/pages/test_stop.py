"""The stop page: what it says before, what it does, and how it proves it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from backoffice.people.models import AccountGrant, JournalEntry
from backoffice.people.roles import setup_roles
from exchanges.models import ExchangeAccount, ScopedHalt, TradingHalt
from exchanges.scoped_halts import halt_scope
from orders.models import Order
from tests.factories import InstrumentFactory
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis
from tests.steps import submit

pytestmark = pytest.mark.django_db


@pytest.fixture
def trader(client: Client, demo: ExchangeAccount) -> Client:
    setup_roles()
    person = User.objects.create_user("tess", is_staff=True)
    role = Group.objects.get(name="Trader")
    person.groups.add(role)
    AccountGrant.objects.create(account=demo, role=role)
    client.force_login(person)
    return client


@pytest.fixture
def orders(demo: ExchangeAccount, exchange: FakeExchange) -> dict[str, Order]:
    return {
        "grid": submit("grid-1", strategy="grid", quantity="0.01", price="50000"),
        "sell": submit("grid-2", strategy="grid", side="SELL", quantity="0.01", price="70000"),
        "trend": submit("trend-1", strategy="trend", quantity="0.02", price="50000"),
    }


def stop(client: Client, scope: dict[str, str], reason: str = "odd prices") -> str:
    """Press the button, and return the address of the proof."""
    response = client.post("/admin/stop/", {**scope, "reason": reason})
    assert response.status_code == 302, response.content.decode()
    return response["Location"]


def ask(client: Client, scope: dict[str, str], total: int) -> tuple[int, bool, str]:
    """Ask the exchange as the page does: how many are left, is it proven, and the page."""
    response = client.post("/admin/stop/ask/", {**scope, "total": str(total)})
    assert response.status_code == 200
    context = response.context
    return context["left_count"], context["is_proven"], response.content.decode()


def test_stop__says_before_what_it_will_do(trader: Client, orders: dict[str, Order]) -> None:
    html = trader.get("/admin/stop/?strategy=grid").content.decode()
    assert "2 orders are canceled:" in html
    assert "500.00 USDT" in html  # left to buy
    assert "700.00 USDT" in html  # left to sell
    assert not ScopedHalt.objects.exists()
    assert {order.status for order in Order.objects.all()} == {"NEW"}


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ({"strategy": "grid"}, {"grid-1", "grid-2"}),
        ({"symbol": "btc/usdt"}, {"grid-1", "grid-2", "trend-1"}),
        ({"account": "demo", "strategy": "trend"}, {"trend-1"}),
        ({"account": "demo"}, {"grid-1", "grid-2", "trend-1"}),
        ({"everything": "on"}, {"grid-1", "grid-2", "trend-1"}),
    ],
)
def test_stop__halts_cancels_and_proves_it(
    trader: Client, orders: dict[str, Order], scope: dict[str, str], names: set[str]
) -> None:
    address = stop(trader, scope)
    assert address.endswith(f"total={len(names)}")
    requested = Order.objects.filter(cancel_requested_by="tess")
    assert {order.intent_id for order in requested} == names
    html = trader.get(address).content.decode()
    assert f"of {len(names)} order" in html
    assert ask(trader, scope, len(names))[:2] == (0, True)
    closed = Order.objects.filter(status="CANCELED")
    assert {order.intent_id for order in closed} == names
    refused = submit("later", strategy=scope.get("strategy", ""))
    assert (refused.status, refused.reason_code) == ("DENIED", "HALTED")
    assert "odd prices" in refused.reason


def test_stop__of_one_order_halts_nothing(trader: Client, orders: dict[str, Order]) -> None:
    scope = {"order": str(orders["grid"].pk)}
    stop(trader, scope)
    assert ask(trader, scope, 1)[:2] == (0, True)
    assert submit("later", strategy="grid").status == "NEW"
    assert set(Order.objects.filter(status="CANCELED")) == {orders["grid"]}


def test_stop__names_what_is_left_until_it_is_proven(
    trader: Client, orders: dict[str, Order], exchange: FakeExchange
) -> None:
    exchange.lose_answer("cancel", executed=False, times=1)
    scope = {"strategy": "trend"}
    stop(trader, scope)
    left, is_proven, html = ask(trader, scope, 1)
    assert (left, is_proven) == (1, False)
    assert "trend-1" in html
    assert ask(trader, scope, 1)[:2] == (0, True)


def test_stop__is_not_proven_by_an_exchange_that_does_not_answer(
    trader: Client, orders: dict[str, Order], exchange: FakeExchange
) -> None:
    exchange.refuse_connection("fetch_open_orders", times=1)
    scope = {"account": "demo"}
    stop(trader, scope)
    left, is_proven, html = ask(trader, scope, 3)
    assert (left, is_proven) == (0, False)
    assert "demo: no answer from the exchange" in html
    assert ask(trader, scope, 3)[:2] == (0, True)


def test_stop__works_with_the_broker_down(
    trader: Client, orders: dict[str, Order], redis_server: TestRedis
) -> None:
    redis_server.stop()
    scope = {"strategy": "grid"}
    stop(trader, scope)
    assert ask(trader, scope, 2)[:2] == (0, True)


def test_stop__needs_a_reason(trader: Client, orders: dict[str, Order]) -> None:
    html = trader.post("/admin/stop/", {"everything": "on", "reason": " "}).content.decode()
    assert "A reason is required." in html
    assert not TradingHalt.objects.filter(is_halted=True).exists()


def test_stop__needs_the_permission(
    client: Client, demo: ExchangeAccount, orders: dict[str, Order]
) -> None:
    person = User.objects.create_user("vera", is_staff=True)
    client.force_login(person)
    assert client.get("/admin/stop/").status_code == 403
    assert client.post("/admin/stop/", {"everything": "on", "reason": "x"}).status_code == 403
    assert client.post("/admin/stop/ask/", {"everything": "on", "total": "1"}).status_code == 403
    assert "/admin/stop/" not in client.get("/admin/").content.decode()
    person.user_permissions.add(Permission.objects.get(codename="halt_trading"))
    without = client.post("/admin/stop/", {"strategy": "grid", "reason": "x"})
    assert without.status_code == 403  # no account was granted
    assert not ScopedHalt.objects.exists()
    AccountGrant.objects.create(account=demo, person=person)
    assert stop(client, {"strategy": "grid"}) == "/admin/stop/"
    assert not Order.objects.filter(cancel_requested_at__isnull=False).exists()
    assert submit("later", strategy="grid").reason_code == "HALTED"


def test_stop__of_an_unknown_account_changes_nothing(
    trader: Client, orders: dict[str, Order]
) -> None:
    response = trader.post("/admin/stop/", {"account": "nobody", "reason": "x"})
    assert response.status_code == 200
    assert not TradingHalt.objects.filter(is_halted=True).exists()
    assert not ScopedHalt.objects.exists()


def test_halts__are_listed_and_resumed_by_those_who_may(
    trader: Client, boss: Client, demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    InstrumentFactory()
    row = halt_scope(account=demo, symbol="", strategy="grid", reason="<b>odd", actor="eva")
    html = boss.get("/admin/stop/").content.decode()
    assert "strategy grid, account demo" in html
    assert "&lt;b&gt;odd" in html
    boss.post("/admin/stop/", {"resume": str(row.pk), "reason": ""})
    assert ScopedHalt.objects.exists()
    boss.post("/admin/stop/", {"resume": str(row.pk), "reason": "over"})
    assert not ScopedHalt.objects.exists()
    assert submit("later", strategy="grid").status == "NEW"
    acts = JournalEntry.objects.filter(subject__contains="strategy:grid").order_by("pk")
    assert [(act.verb, act.reason) for act in acts] == [("halt", "<b>odd"), ("resume", "over")]


def test_halts__stay_without_the_right_to_resume(trader: Client, demo: ExchangeAccount) -> None:
    row = halt_scope(account=None, symbol="BTCUSDT", strategy="", reason="odd", actor="eva")
    assert trader.post("/admin/stop/", {"resume": row.pk, "reason": "x"}).status_code == 403
    assert ScopedHalt.objects.exists()
