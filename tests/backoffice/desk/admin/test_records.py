"""Records are read-only, and nothing from outside runs in a page."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from backoffice.desk.lists.paging import BigTable
from orders.models import (
    ExchangeOrder,
    Fill,
    Order,
    OrderEvent,
    ReconciliationBreak,
    Status,
)
from tests.factories import (
    ExchangeOrderFactory,
    FillFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)

pytestmark = pytest.mark.django_db


LIST = "/admin/orders/order/"
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
RECORDS = (Order, ExchangeOrder, Fill, OrderEvent, ReconciliationBreak)


def page_of(order: Order) -> str:
    return reverse("admin:orders_order_change", args=[order.pk])


def test_admin__escapes_what_the_exchange_and_bots_write(boss: Client) -> None:
    order = OrderFactory(
        status=Status.REJECTED,
        reason_code=HOSTILE[:64],
        reason=HOSTILE,
        strategy=HOSTILE[:64],
        symbol=HOSTILE[:32],
    )
    request = ExchangeOrderFactory(
        order=order, exchange_status=HOSTILE[:32], exchange_order_id=HOSTILE[:64]
    )
    FillFactory(
        exchange_order=request,
        quantity=1,
        price=1,
        commission_asset=HOSTILE[:32],
        trade_id=HOSTILE[:64],
    )
    OrderEventFactory(order=order, actor=HOSTILE, source=HOSTILE[:16], details={HOSTILE: HOSTILE})
    ReconciliationBreakFactory(
        account=order.account,
        order=order,
        subject=HOSTILE,
        resolution=HOSTILE,
        details={"said": HOSTILE},
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
        assert (
            boss.post(
                f"/admin/orders/{model}/{pk}/change/", {"reason": "mine", "status": "NEW"}
            ).status_code
            == 403
        )
        assert boss.post(f"/admin/orders/{model}/{pk}/delete/", {"post": "yes"}).status_code == 403
        assert "delete_selected" not in boss.get(f"/admin/orders/{model}/").content.decode()
    fill.order.refresh_from_db()
    assert fill.order.status == Status.FILLED


def test_admin__registers_the_records_read_only() -> None:
    from django.contrib import admin

    for model in RECORDS:
        page = admin.site._registry.get(model)
        assert page is None or isinstance(page, BigTable)
