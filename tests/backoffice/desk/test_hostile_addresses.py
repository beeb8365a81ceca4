"""Open every list with hostile values in every filter and search box: none may answer 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.views.main import (
    ORDER_VAR,
    PAGE_VAR,
    SEARCH_VAR,
    ChangeList,
)
from django.test import Client, RequestFactory
from django.urls import reverse

from tests.factories import ExchangeAccountFactory, OrderFactory

HOSTILE = (
    "a\x00b",
    "9999-12-31",
    "0001-01-01",
    "9" * 40,
    "nan",
    "'; --",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "x" * 5000,
    "23:59:60",
)


def lists() -> Iterator[Any]:
    for model, model_admin in admin.site._registry.items():
        yield pytest.param(model_admin, id=model._meta.label)


def parameters(model_admin: Any, user: Any) -> set[str]:
    """Return the parameters of a list's filters, with the ends of ranges, and the general ones."""
    request = RequestFactory().get("/")
    request.user = user
    found = {SEARCH_VAR, ORDER_VAR, PAGE_VAR}
    changes: ChangeList = model_admin.get_changelist_instance(request)
    for spec in changes.filter_specs:
        found |= {str(name) for name in spec.expected_parameters() if name}
    return found


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*naive datetime")
@pytest.mark.parametrize("model_admin", [*lists()])
@pytest.mark.parametrize("values", [HOSTILE[:2], HOSTILE[2:]])
def test_lists__no_value_in_an_address_breaks_them(
    admin_client: Client, model_admin: Any, values: tuple[str, ...]
) -> None:
    OrderFactory(account=ExchangeAccountFactory(name="demo"))
    user = admin_client.get(reverse("admin:index")).wsgi_request.user
    opts = model_admin.model._meta
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist")
    admin_client.raise_request_exception = False
    broken = []
    for name in sorted(parameters(model_admin, user)):
        for value in values:
            response = admin_client.get(address, {name: value})
            if response.status_code >= 500:
                broken.append((name, value[:20]))
    assert broken == []


@pytest.mark.parametrize("model_admin", [*lists()])
def test_lists__refuse_a_lookup_that_no_filter_declares(
    admin_client: Client, model_admin: Any
) -> None:
    """Every field, its regular expression and every related field would be searchable otherwise."""
    opts = model_admin.model._meta
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist")
    user = admin_client.get(reverse("admin:index")).wsgi_request.user
    declared = parameters(model_admin, user)
    for name in declared - {SEARCH_VAR, ORDER_VAR, PAGE_VAR}:
        assert admin_client.get(address, {name: "1"}).status_code in (200, 302), name
    columns = [field.name for field in opts.concrete_fields]
    ends = ("__regex", "__gt", "__contains")
    lookups = [f"{name}{ends[number % 3]}" for number, name in enumerate(columns)]
    for lookup in (*lookups, "account__trading_state_reason__regex", "nothing__regex"):
        # The page of the global halt has no list.
        answer = 302 if opts.model_name == "tradinghalt" else 400
        assert admin_client.get(address, {lookup: "1"}).status_code == answer, lookup


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("end", ["from_0", "from_1", "to_0", "to_1"])
def test_time_ranges__no_value_breaks_them(admin_client: Client, end: str, value: str) -> None:
    admin_client.raise_request_exception = False
    address = reverse("admin:orders_order_changelist")
    other = {"created_at_from_0": "2026-01-01", "created_at_to_0": "2026-01-02"}
    response = admin_client.get(address, {**other, f"created_at_{end}": value})
    assert response.status_code < 500
