"""The prices around an order's life, with its fills and limits, for the chart on its page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from exchanges import clock
from exchanges.errors import GatewayError
from exchanges.market_view import candles_for
from exchanges.types import plain
from orders.models import Fill, Order

LEAST_MARGIN = timedelta(minutes=2)
MOST_FILLS = 500


def order_prices(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Return candles, fills and limits. The prices are texts: the chart alone rounds them."""
    if not request.user.has_perm("orders.view_order"):
        raise PermissionDenied
    order = get_object_or_404(Order.objects.select_related("account"), pk=order_id)
    start, end = window_of(order, clock.now())
    try:
        candles = candles_for(order.account, order.symbol, start, end)
    except GatewayError as error:
        text = _("The exchange's prices could not be read: %(error)s")
        return JsonResponse({"error": text % {"error": error}})
    fills = Fill.objects.filter(order=order).order_by("traded_at")[:MOST_FILLS]
    return JsonResponse(
        {
            "candles": [
                {
                    "time": int(candle.opened_at.timestamp()),
                    "open": plain(candle.open),
                    "high": plain(candle.high),
                    "low": plain(candle.low),
                    "close": plain(candle.close),
                }
                for candle in candles
            ],
            "fills": [_fill(fill) for fill in fills],
            "lines": _lines(order),
        }
    )


def window_of(order: Order, now: datetime) -> tuple[datetime, datetime]:
    """Return the time of the chart: the order's life and a quarter of it on both sides."""
    end = order.closed_at or now
    margin = max((end - order.created_at) / 4, LEAST_MARGIN)
    return order.created_at - margin, min(end + margin, now)


def _fill(fill: Fill) -> dict[str, Any]:
    return {
        "time": int(fill.traded_at.timestamp()),
        "price": plain(fill.price),
        "text": f"{fill.side} {plain(fill.quantity)} @ {plain(fill.price)}",
        "side": fill.side,
    }


def _lines(order: Order) -> list[dict[str, str]]:
    # As the exchange has them, on its tick, if the order was sent.
    sent = order.exchange_orders.order_by("-attempt").first() or order
    given = ((_("limit"), sent.price), (_("stop"), sent.stop_price))
    average = (_("average"), order.average_price)
    return [{"title": title, "price": plain(p)} for title, p in (*given, average) if p]


def admin_prices(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Return the prices to the people who may use the admin."""
    return admin.site.admin_view(order_prices)(request, order_id=order_id)
