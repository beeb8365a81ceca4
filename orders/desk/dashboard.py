"""The few figures of the front page. Each is served by an index, and none grows with the size of the history."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Min
from django.http import HttpRequest
from django.urls import reverse

from exchanges import clock
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from exchanges.pages import STATE_COLOURS, duration, stream_label
from orders import states
from orders.desk.explain import STATUS_COLOURS
from orders.models import Order, ReconciliationBreak, Status

LATEST = 8


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback: adds to the index page what this person may see."""
    user = request.user
    if user.has_perm("orders.view_order"):
        context |= {"today": _today(), "unresolved": _unresolved(), "latest_orders": _latest()}
    if user.has_perm("orders.view_reconciliationbreak"):
        context["open_breaks"] = ReconciliationBreak.objects.filter(resolved_at__isnull=True).count()
    if user.has_perm("exchanges.view_exchangeaccount"):
        context["accounts"] = _accounts()
        context["halt"] = TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).first()
    return context


def _today() -> list[dict[str, Any]]:
    """Orders recorded since midnight UTC, by status, in the order of the state table."""
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    rows = Order.objects.filter(created_at__gte=midnight).order_by().values_list("status").annotate(Count("pk"))
    counts = dict(rows)
    address = reverse("admin:orders_order_changelist")
    return [
        {
            "label": status.label,
            "count": counts[status],
            "colour": STATUS_COLOURS[status],
            "link": f"{address}?status={status}&created_at_from_0={midnight:%Y-%m-%d}&created_at_from_1=00:00:00",
        }
        for status in Status
        if status in counts
    ]


def _unresolved() -> dict[str, Any]:
    rows = Order.objects.filter(status__in=[*states.UNSETTLED]).aggregate(count=Count("pk"), oldest=Min("created_at"))
    oldest = rows["oldest"]
    return {"count": rows["count"], "oldest": oldest and duration(clock.now() - oldest)}


def _latest() -> list[Order]:
    return list(Order.objects.select_related("account").order_by("-created_at", "-id")[:LATEST])


def _accounts() -> list[dict[str, Any]]:
    now = clock.now()
    return [
        {
            "account": account,
            "colour": STATE_COLOURS[TradingState(account.trading_state)],
            "stream": stream_label(account),
            "synced": account.last_synced_at and duration(now - account.last_synced_at),
        }
        for account in ExchangeAccount.objects.select_related("stream").order_by("name")
    ]
