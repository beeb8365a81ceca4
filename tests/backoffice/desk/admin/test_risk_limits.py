"""Risk limits: people with the permission edit them, and every change is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from exchanges.models import ExchangeAccount
from orders.models import RiskLimit, RiskLimitChange
from tests.factories import ExchangeAccountFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/orders/risklimit/"


def person(*permissions: str) -> Client:
    user = User.objects.create_user("eva", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client = Client()
    client.force_login(user)
    return client


def answers(account: ExchangeAccount, **changes: Any) -> dict[str, Any]:
    return {
        "account": account.pk,
        "symbol": "",
        "strategy": "",
        "currency": "USDT",
        "max_price_age": 60,
        "identical_window": 10,
        **changes,
    }


def test_risk_limit_page__stores_each_change_with_its_author() -> None:
    account = ExchangeAccountFactory(name="bot-1")
    eva = person(
        "view_risklimit",
        "add_risklimit",
        "change_risklimit",
        "delete_risklimit",
        "view_risklimitchange",
    )
    assert eva.post(f"{LIST}add/", answers(account, max_order_notional="1000.5")).status_code == 302
    row = RiskLimit.objects.get()
    assert (
        eva.post(f"{LIST}{row.pk}/change/", answers(account, max_open_orders="3")).status_code
        == 302
    )
    assert eva.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    scope: dict[str, Any] = {"account": "bot-1", "symbol": "", "strategy": "", "currency": "USDT"}
    scope |= {"max_price_age": 60, "identical_window": 10}
    first, second = scope | {"max_order_notional": "1000.5"}, scope | {"max_open_orders": 3}
    kept = RiskLimitChange.objects.order_by("id")
    assert [(c.actor, c.before, c.after) for c in kept] == [
        ("eva", {}, first),
        ("eva", first, second),
        ("eva", second, {}),
    ]
    assert eva.get("/admin/orders/risklimitchange/").status_code == 200
    assert eva.get("/admin/orders/risklimitchange/add/").status_code == 403


def test_risk_limit_page__writes_symbols_and_currencies_as_orders_do() -> None:
    account = ExchangeAccountFactory()
    given = answers(
        account, symbol=" btc/usdt", currency="usdt ", strategy="grid ", max_open_orders="3"
    )
    assert person("add_risklimit").post(f"{LIST}add/", given).status_code == 302
    row = RiskLimit.objects.get()
    assert (row.symbol, row.currency, row.strategy) == ("BTCUSDT", "USDT", "grid")


def test_risk_limit_page__is_read_only_without_the_permission() -> None:
    account = ExchangeAccountFactory()
    row = RiskLimit.objects.create(account=account, max_open_orders=3)
    viewer = person("view_risklimit")
    assert viewer.get(LIST).status_code == 200
    assert (
        viewer.post(f"{LIST}{row.pk}/change/", answers(account, max_open_orders="300")).status_code
        == 403
    )
    assert RiskLimit.objects.get().max_open_orders == 3
    assert not RiskLimitChange.objects.exists()


def test_risk_limit_page__saving_a_stale_page_undoes_no_tighter_limit() -> None:
    """Two people have the same page open. The second one to save has seen the old limit."""
    account = ExchangeAccountFactory(name="bot-1")
    row = RiskLimit.objects.create(account=account, currency="USDT", max_order_notional=1000)
    eva = person("view_risklimit", "change_risklimit")
    address = f"{LIST}{row.pk}/change/"
    seen = eva.get(address).context["adminform"].form.seen_state
    RiskLimit.objects.filter(pk=row.pk).update(max_order_notional=10)

    stale = answers(account, max_order_notional="1000", max_open_orders="7", seen_state=seen)
    answered = eva.post(address, stale)

    row.refresh_from_db()
    assert (row.max_order_notional, row.max_open_orders) == (10, None)
    assert "has changed since" in answered.content.decode()
    assert eva.post(address, stale).status_code == 200, "the page stays as old as it is"
    fresh = eva.get(address).context["adminform"].form.seen_state
    assert eva.post(address, {**stale, "seen_state": fresh}).status_code == 302
