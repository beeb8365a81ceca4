"""What the groups of `setup_roles` may see and do."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client

from tests.factories import FillFactory

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PAGES = (
    "/admin/orders/order/",
    "/admin/orders/fill/",
    "/admin/orders/orderevent/",
    "/admin/orders/reconciliationbreak/",
    "/admin/exchanges/exchangeaccount/",
    "/admin/exchanges/tradinghalt/1/change/",
    "/admin/exchanges/balance/",
    "/admin/exchanges/instrument/",
    "/admin/exchanges/breakerchange/",
)


def member(role: str) -> User:
    user = User.objects.create_user(f"a-{role}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def test_setup_roles__makes_a_viewer_who_sees_all_records_and_changes_none(client: Client) -> None:
    call_command("setup_roles")
    fill = FillFactory()
    client.force_login(member("Viewer"))
    for address in (*PAGES, f"/admin/orders/order/{fill.order_id}/change/"):
        assert client.get(address).status_code == 200, address
    assert client.get("/admin/exchanges/exchangeaccount/add/").status_code == 403
    assert client.post(f"/admin/exchanges/exchangeaccount/{fill.account_id}/change/", {}).status_code == 403
    assert client.get("/admin/auth/user/").status_code == 403
    html = client.get(f"/admin/orders/order/{fill.order_id}/change/").content.decode()
    assert fill.trade_id in html
    assert fill.exchange_order.client_order_id in html


def test_setup_roles__lets_a_trader_cancel_and_halt_but_not_resume() -> None:
    call_command("setup_roles")
    trader = member("Trader")
    assert trader.has_perm("orders.cancel_order")
    assert trader.has_perm("exchanges.halt_trading")
    assert not trader.has_perm("exchanges.resume_trading")
    assert not trader.has_perm("exchanges.force_breaker")
    assert not any(".change_" in name or ".add_" in name or ".delete_" in name for name in trader.get_all_permissions())


def test_setup_roles__brings_a_group_back_and_keeps_its_members() -> None:
    call_command("setup_roles")
    viewer = member("Viewer")
    group = Group.objects.get(name="Viewer")
    group.permissions.set([Permission.objects.get(codename="cancel_order")])
    call_command("setup_roles")
    assert Group.objects.count() == 2
    assert not viewer.has_perm("orders.cancel_order")
    assert viewer.has_perm("orders.view_order")
