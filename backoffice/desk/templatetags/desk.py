"""Template filters and tags of the desk's pages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import template
from django.contrib.admin.views.main import PAGE_VAR

from backoffice.desk.lists import columns
from backoffice.desk.lists.columns import STATUS_COLORS
from backoffice.desk.lists.grids import attach_grids
from backoffice.desk.pages.tour import tour_of
from backoffice.desk.reasons import shown_reason
from orders.models import Order, OrderEvent, Status

register = template.Library()
register.filter(shown_reason)


@register.filter
def utc(moment: datetime | None) -> str:
    return columns.utc(moment)


@register.filter
def utc_precise(moment: datetime | None) -> str:
    return columns.utc(moment, precise=True)


@register.filter
def grouped(count: int) -> str:
    """Group the digits of a count by thousands: `12 345`."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


@register.filter
def span(value: timedelta) -> str:
    return columns.duration(value)


@register.filter
def status_color(status: str) -> str:
    return STATUS_COLORS[Status(status)]


@register.filter
def number(value: Decimal | None) -> str:
    """Show every digit of a number."""
    return columns.number(value)


@register.filter
def price(value: Decimal | None, row: Any) -> str:
    """Show an average or last price to the tick: `{{ order.average_price|price:order }}`."""
    return columns.number(value, columns.writer(row, "price"))


@register.filter
def limit_price(value: Decimal | None, row: Any) -> str:
    return columns.number(value, columns.writer(row, "limit_price"))


@register.filter
def quantity(value: Decimal | None, row: Any) -> str:
    return columns.number(value, columns.writer(row, "quantity"))


@register.filter
def money(value: Decimal | None, row: Any) -> str:
    return columns.number(value, columns.writer(row, "money"))


@register.filter
def amount_asked(order: Order) -> str:
    return columns.amount_asked(order)


@register.inclusion_tag("desk/orders_table.html")
def orders_table(orders: Iterable[Order]) -> dict[str, Any]:
    return {"orders": attach_grids(orders)}


@register.inclusion_tag("desk/tour.html", takes_context=True)
def guided_tour(context: Any) -> dict[str, Any]:
    request = context.get("request")
    return {
        "tour": tour_of(request) if request is not None else None,
        "csrf_token": context.get("csrf_token"),
    }


@register.simple_tag
def page_link(cl: Any, step: int) -> str:
    """Return the address of the list's page before (-1) or after (1) this one."""
    address: str = cl.get_query_string({PAGE_VAR: cl.page_num + step})
    return address


@register.filter
def change_text(event: OrderEvent) -> str:
    """Show the status before and after an event."""
    return columns.change_text(event)


@register.filter
def of_key(found: dict[str, Any], key: str) -> Any:
    """Look a key up: `{{ notes|of_key:item.key }}`. A key without a value gives nothing."""
    return found.get(key, ())
