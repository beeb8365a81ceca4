"""What the admin's frame shows: the environment badge and the sidebar."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from exchanges.models import Environment, ExchangeAccount
from orders import states
from orders.models import Order, ReconciliationBreak


def environment_badge(request: HttpRequest) -> list[str]:
    """The most serious environment among the enabled accounts, with unfold's colour for it."""
    environments = set(ExchangeAccount.objects.filter(is_enabled=True).values_list("environment", flat=True))
    if Environment.LIVE in environments:
        return [_("live"), "danger"]
    if Environment.TESTNET in environments:
        return [_("testnet"), "warning"]
    return [_("simulator"), "success"]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups of pages; of each page only those who may view its records see the line."""
    groups = [
        (
            _("Trading"),
            [
                _line(request, "orders.order", _("Orders"), "receipt_long"),
                _unresolved(request),
                _line(request, "orders.fill", _("Fills"), "done_all"),
                _line(request, "orders.position", _("Positions"), "pie_chart"),
                _breaks(request),
                _line(request, "orders.orderevent", _("Events"), "history"),
                _limits(request),
                _line(request, "orders.risklimitchange", _("Changes of risk limits"), "manage_history"),
                _asking(request),
            ],
        ),
        (
            _("Exchange"),
            [
                _line(request, "exchanges.exchangeaccount", _("Accounts"), "account_balance"),
                _line(request, "exchanges.tradinghalt", _("Halt of all trading"), "front_hand"),
                _line(request, "exchanges.breakerchange", _("Changes of circuit breakers"), "electrical_services"),
                _line(request, "exchanges.balance", _("Balances"), "account_balance_wallet"),
                _line(request, "exchanges.instrument", _("Instruments"), "candlestick_chart"),
            ],
        ),
        (
            _("Administration"),
            [
                _line(request, "auth.user", _("Users"), "person"),
                _line(request, "auth.group", _("Groups"), "group"),
                _line(request, "django_celery_beat.periodictask", _("Schedule"), "schedule"),
            ],
        ),
    ]
    home = {"items": [{"title": _("Overview"), "icon": "space_dashboard", "link": reverse("admin:index")}]}
    shown = ({"title": title, "items": [line for line in lines if line]} for title, lines in groups)
    return [home, *(group for group in shown if group["items"])]


def _line(request: HttpRequest, model: str, title: str, icon: str, **more: Any) -> dict[str, Any] | None:
    app_label, _dot, name = model.partition(".")
    if not request.user.has_perm(f"{app_label}.view_{name}"):
        return None
    address = reverse(f"admin:{app_label}_{name}_changelist")
    return {"title": title, "icon": icon, "link": address, "active": request.path.startswith(address), **more}


def _unresolved(request: HttpRequest) -> dict[str, Any] | None:
    line = _line(request, "orders.order", _("Unresolved"), "hourglass_top", active=False)
    if line is None:
        return None
    count = Order.objects.filter(status__in=[*states.UNSETTLED]).count()
    return line | {"link": f"{line['link']}?phase=unresolved"} | _badge(count, "warning")


def _breaks(request: HttpRequest) -> dict[str, Any] | None:
    line = _line(request, "orders.reconciliationbreak", _("Breaks"), "report")
    if line is None:
        return None
    return line | _badge(ReconciliationBreak.objects.filter(resolved_at__isnull=True).count(), "danger")


def _limits(request: HttpRequest) -> dict[str, Any] | None:
    line = _line(request, "orders.risklimit", _("Risk limits"), "speed")
    return line and line | {"active": line["active"] and request.path != reverse("admin:orders_risklimit_ask")}


def _asking(request: HttpRequest) -> dict[str, Any] | None:
    if not request.user.has_perm("orders.simulate_gate"):
        return None
    address = reverse("admin:orders_risklimit_ask")
    return {"title": _("Ask the gate"), "icon": "quiz", "link": address, "active": request.path == address}


def _badge(count: int, variant: str) -> dict[str, Any]:
    return {"badge": count, "badge_variant": variant} if count else {}
