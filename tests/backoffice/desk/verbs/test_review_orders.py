"""A second person releases or rejects a held order, and a person places one by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from backoffice.people.models import AccountGrant, JournalEntry, LinkedLogin
from exchanges.models import ExchangeAccount
from orders.models import Order, ReviewRule
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = pytest.mark.django_db

HAND = "/admin/orders/order/by-hand/"


@pytest.fixture(autouse=True)
def _rule(account: ExchangeAccount, simulator: Simulator) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    ReviewRule.objects.create(kind="order", symbol="BTCUSDT")
    for role in ("Trader", "Risk officer", "Viewer"):
        AccountGrant.objects.create(account=account, role=Group.objects.get(name=role))


def person(name: str, *roles: str) -> Client:
    user = User.objects.create_user(name, password="a-long-password-1", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    client = Client()
    client.login(username=name, password="a-long-password-1")
    return client


def review(client: Client, order: Order, verb: str = "release") -> str:
    """Do as the page does: read the form, then send it back."""
    address = f"/admin/orders/order/{order.pk}/{verb}/"
    shown = client.get(address, follow=True).content.decode()
    seen = re.search(r'name="seen" value="(\d+)"', shown)
    if seen is None:
        return shown
    answer = {"confirmed": "yes", "reason": "looks right", "seen": seen[1]}
    return client.post(address, answer, follow=True).content.decode()


def state(order: Order) -> str:
    order.refresh_from_db()
    return str(order.status)


def by_hand(client: Client, **changes: Any) -> Any:
    page = client.get(HAND).content.decode()
    found = re.search(r'name="intent_id" value="([^"]+)"', page)
    assert found is not None
    form = {
        "account": "demo",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "quantity": "0.01",
        "price": "50000",
        "minutes": "15",
        "reason": "hedge",
        "intent_id": found[1],
        **changes,
    }
    return client.post(HAND, form, follow=True)


@pytest.mark.usefixtures("eager")
def test_release__is_a_verb_of_the_risk_officer(
    simulator: Simulator, django_capture_on_commit_callbacks: Any
) -> None:
    order = submit()
    for role in ("Viewer", "Trader"):
        other = person(f"a-{role}", role)
        assert other.get(f"/admin/orders/order/{order.pk}/release/").status_code == 403
        assert other.post(f"/admin/orders/order/{order.pk}/release/", {}).status_code == 403
    assert state(order) == "HELD"
    with django_capture_on_commit_callbacks(execute=True):
        page = review(person("carl", "Risk officer"), order)
    assert "Released." in page
    assert state(order) == "NEW"


def test_reject__closes_the_order() -> None:
    order = submit()
    assert "Rejected." in review(person("carl", "Risk officer"), order, "reject")
    assert (state(order), order.reason) == ("DENIED", "looks right")


def test_release__of_an_order_that_changed_is_refused() -> None:
    order, carl = submit(), person("carl", "Risk officer")
    Order.objects.filter(pk=order.pk).update(version=order.version + 1)
    answer = {"confirmed": "yes", "reason": "r", "seen": str(order.version)}
    page = carl.post(f"/admin/orders/order/{order.pk}/release/", answer, follow=True)
    assert "no longer waits as you saw it" in page.content.decode()
    assert state(order) == "HELD"


def test_release__is_refused_to_the_maker_with_every_login() -> None:
    anna = person("anna", "Trader", "Risk officer")
    by_hand(anna, confirmed="yes")
    order = Order.objects.get()
    assert (order.strategy, order.status) == ("person:anna", "CREATED")
    from orders.placing.submit import place_order

    order = place_order(order.pk, is_due=True)
    assert order.status == "HELD"
    assert "Another person must release it" in review(anna, order)
    second = person("anna-2", "Risk officer")
    for login in ("anna", "anna-2"):
        LinkedLogin.objects.create(login=User.objects.get(username=login), human="Anna Smith")
    assert "Another person must release it" in review(second, order)
    assert state(order) == "HELD"
    assert "Released." in review(person("carl", "Risk officer"), order)
    entry = JournalEntry.objects.get(verb="release_order")
    assert (entry.person, entry.subject) == ("carl", f"order:{order.pk}")


def test_by_hand__shows_rules_price_and_the_gates_answer_and_sends_nothing() -> None:
    submit("warm-up")  # fetches instruments, balances and the price
    page = by_hand(person("anna", "Trader")).content.decode()
    assert "HELD" in page
    assert "would wait for a second person" in page
    assert "Tick size" in page
    assert Order.objects.count() == 1


def test_by_hand__records_one_order_marked_with_the_person(account: ExchangeAccount) -> None:
    anna = person("anna", "Trader")
    page = anna.get(HAND).content.decode()
    found = re.search(r'name="intent_id" value="([^"]+)"', page)
    assert found is not None
    for _ in range(2):
        by_hand(anna, confirmed="yes", intent_id=found[1])
    order = Order.objects.get()
    assert (order.intent_id, order.strategy) == (found[1], "person:anna")
    assert order.place_by is not None
    assert (order.place_by - order.created_at).total_seconds() == pytest.approx(900, abs=5)
    entry = JournalEntry.objects.get(verb="place_order")
    assert (entry.person, entry.reason, entry.account) == ("anna", "hedge", "demo")


def test_by_hand__needs_its_right_and_a_granted_account(account: ExchangeAccount) -> None:
    assert person("vic", "Viewer").get(HAND).status_code == 403
    assert person("rita", "Risk officer").post(HAND, {}).status_code == 403
    AccountGrant.objects.all().delete()
    by_hand(person("anna", "Trader"), confirmed="yes")
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("quantity", "-1"), ("price", "abc"), ("minutes", "0"), ("reason", ""), ("intent_id", "x")],
)
def test_by_hand__names_the_field_that_is_wrong(field: str, value: str) -> None:
    page = by_hand(person("anna", "Trader"), confirmed="yes", **{field: value})
    assert field in page.context["form"].errors
    assert not Order.objects.exists()
