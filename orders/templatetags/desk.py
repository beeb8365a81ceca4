"""Template filters of the desk's pages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template

from exchanges import pages
from exchanges.types import plain as plain_text
from orders.desk.explain import STATUS_COLOURS
from orders.models import Order, Status

register = template.Library()


@register.filter
def plain(value: Decimal | None) -> str:
    return pages.EMPTY if value is None else plain_text(value)


@register.filter
def utc(moment: datetime | None) -> str:
    return pages.utc(moment)


@register.filter
def utc_precise(moment: datetime | None) -> str:
    return pages.utc(moment, precise=True)


@register.filter
def status_colour(status: str) -> str:
    return STATUS_COLOURS[Status(status)]


@register.inclusion_tag("desk/orders_table.html")
def orders_table(orders: Iterable[Order]) -> dict[str, Any]:
    return {"orders": orders}
