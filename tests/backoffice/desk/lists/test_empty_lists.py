"""Let every list say what would be in it, and show its rows on a phone."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from backoffice.desk.lists.paging import BigTable

#: Their lists are never empty, or they have a page of their own.
NEVER_EMPTY = {"user", "group", "tradinghalt", "workitem"}
LISTS = [one for one in admin.site._registry.values() if one.opts.model_name not in NEVER_EMPTY]


@pytest.mark.parametrize("page", LISTS, ids=lambda page: page.opts.model_name)
def test_list__says_what_would_be_here(page: admin.ModelAdmin) -> None:  # type: ignore[type-arg]
    assert str(getattr(page, "empty_text", ""))
    assert str(getattr(page, "empty_hint", "")).endswith(".")


@pytest.mark.parametrize(
    "page",
    [one for one in LISTS if isinstance(one, BigTable)],
    ids=lambda page: page.opts.model_name,
)
def test_list__has_the_lines_of_its_card(page: BigTable) -> None:
    """A phone hides each column that is on no line, so that a list without lines looks empty."""
    names = {str(getattr(column, "__name__", column)) for column in page.list_display}
    lines = [set(line.split()) for line in page.card_lines]
    assert len(lines) == 3
    assert all(line & names for line in lines), (lines, names)


@pytest.mark.django_db
def test_empty_list_of_the_theme__says_what_would_be_here(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:orders_risklimit_changelist")).content.decode()
    assert "No risk limits" in page
    assert "Add risk limit" in page
    filtered = admin_client.get(reverse("admin:people_linkedlogin_changelist")).content.decode()
    assert "No linked logins" in filtered


@pytest.mark.django_db
def test_header__names_the_page_without_its_app(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:orders_risklimit_changelist")).content.decode()
    header = page[page.index("<h1") : page.index("</h1>")]
    assert "Risk limits" in header
    assert "/admin/orders/" not in header.replace("/admin/orders/risklimit/", "")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "active"),
    [
        ("/admin/orders/order/", "Orders"),
        ("/admin/orders/order/?phase=unresolved", "Unresolved"),
        ("/admin/orders/order/by-hand/", "Place an order by hand"),
        ("/admin/orders/risklimit/ask/", "Ask the gate"),
        ("/admin/exchanges/balance/tie-out/", "Tie-out of the balances"),
        ("/admin/exchanges/balance/", "Balances"),
    ],
)
def test_sidebar__marks_one_page(admin_client: Client, address: str, active: str) -> None:
    context = admin_client.get(address).context
    marked = [
        item["title"]
        for group in context["sidebar_navigation"]
        for item in group["items"]
        if item.get("active")
    ]
    assert marked == [active]


@pytest.mark.django_db
def test_wrong_address__has_a_page_with_a_way_back(admin_client: Client) -> None:
    answer = admin_client.get("/nowhere/")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()
    assert 'href="/admin/"' in answer.content.decode()
