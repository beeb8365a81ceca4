"""Columns and views that each person chooses for a list."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from backoffice.desk.lists import saved_views
from backoffice.desk.models import SavedView
from tests.factories import OrderFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/orders/order/"
POST = f"{LIST}views/"


def headings(client: Client, address: str = LIST) -> list[str]:
    response = client.get(address)
    assert response.status_code == 200
    return [str(column) for column in response.context["cl"].list_display][1:]


def viewer(name: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_order"))
    client = Client()
    client.force_login(user)
    return client


def save(client: Client, **values: Any) -> str:
    response = client.post(POST, {"do": "save", **values})
    assert response.status_code == 302
    return str(response.headers["Location"])


def test_columns__are_kept_for_the_person_who_chose_them(boss: Client) -> None:
    OrderFactory()
    usual = headings(boss)
    boss.post(POST, {"do": "columns", "column": ["symbol", "strategy", "no-such-column"]})
    assert headings(boss) == ["created_at", "symbol", "strategy"]  # the time leads to the order
    assert headings(viewer("other"))[-1] == usual[-1]
    boss.post(POST, {"do": "usual_columns"})
    assert headings(boss) == usual


def test_columns__in_the_address_come_first(boss: Client) -> None:
    boss.post(POST, {"do": "columns", "column": ["symbol"]})
    assert headings(boss, f"{LIST}?columns=account,strategy") == [
        "created_at", "account", "strategy",
    ]  # fmt: skip
    assert headings(boss, f"{LIST}?columns=nonsense")[1] == "status_label"  # the usual ones


def test_view__has_a_name_and_an_address(boss: Client) -> None:
    OrderFactory(intent_id="mine", strategy="grid", side="SELL")
    OrderFactory(intent_id="not-mine", strategy="trend")
    address = save(boss, name="Grid sells", query="strategy=grid&p=3&side__exact=SELL")
    opened = boss.get(address, follow=True)
    assert [row.intent_id for row in opened.context["cl"].result_list] == ["mine"]
    html = opened.content.decode()
    assert f'<a href="{address}" aria-current="page">Grid sells</a>' in html
    assert "p=3" not in opened.redirect_chain[-1][0]
    assert 'aria-current="page">Grid sells' not in boss.get(LIST).content.decode()


def test_view__keeps_its_columns_when_others_are_chosen_later(boss: Client) -> None:
    address = save(boss, name="Few", query="columns=created_at%2Csymbol")
    boss.post(POST, {"do": "columns", "column": ["strategy"]})
    opened = boss.get(address, follow=True)
    assert [str(one) for one in opened.context["cl"].list_display][1:] == ["created_at", "symbol"]


def test_view__of_the_same_name_is_replaced(boss: Client) -> None:
    save(boss, name="Mine", query="symbol=BTCUSDT")
    save(boss, name="Mine", query="symbol=ETHUSDT")
    assert SavedView.objects.get().query == "symbol=ETHUSDT"


def test_view__is_its_owners_alone(boss: Client) -> None:
    address = save(boss, name="Private", query="symbol=BTCUSDT")
    other = viewer("other")
    assert other.get(address).status_code == 404
    assert "Private" not in other.get(LIST).content.decode()
    pk = SavedView.objects.get().pk
    other.post(POST, {"do": "delete", "view": pk})
    assert SavedView.objects.count() == 1
    boss.post(POST, {"do": "delete", "view": pk})
    assert SavedView.objects.count() == 0


def test_view__needs_a_name_and_has_a_limit(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MAX_VIEWS", 1)
    save(boss, name="", query="")
    assert SavedView.objects.count() == 0
    save(boss, name="one")
    save(boss, name="two")
    assert [view.name for view in SavedView.objects.all()] == ["one"]
    assert "Delete one first" in boss.get(LIST).content.decode()


def test_view__shows_hostile_text_as_text(boss: Client) -> None:
    hostile = '"><script>alert(1)</script>'
    address = save(boss, name=hostile, query="symbol=%3Cscript%3E&next=//evil.example/")
    html = boss.get(address, follow=True).content.decode()
    assert "<script>alert(1)" not in html
    assert boss.get(address).headers["Location"].startswith("/admin/orders/order/?")


@pytest.mark.parametrize("path", ["views/", "views/1/"])
def test_views__need_the_permission_to_see_the_list(path: str) -> None:
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    answer = client.post(f"{LIST}{path}", {"do": "save", "name": "x"})
    assert answer.status_code in (403, 404)
    assert SavedView.objects.count() == 0


def test_views__are_changed_by_post_alone(boss: Client) -> None:
    assert boss.get(POST).status_code == 405
