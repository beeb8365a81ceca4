"""Name the environment in a badge, and list the pages in the sidebar."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice.desk.lists.filters import UNRESOLVED
from backoffice.desk.work_queue.work_items import count_drafts, count_open_breaks, count_waiting
from backoffice.people.grants import accounts_of, narrow
from exchanges.models import Environment
from orders import states
from orders.models import Order


def environment_badge(request: HttpRequest) -> list[str]:
    """Return the most serious environment among the person's enabled accounts, and its color."""
    rows = accounts_of(request.user).filter(is_enabled=True)
    environments = set(rows.order_by().values_list("environment", flat=True))
    if Environment.LIVE in environments:
        return [_("live"), "danger"]
    if Environment.TESTNET in environments:
        return [_("testnet"), "warning"]
    return [_("simulator"), "success"]


Line = dict[str, Any] | None


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of pages, with only the lines whose records this person may view."""
    overview = {"title": _("Overview"), "icon": "space_dashboard", "link": reverse("admin:index")}
    work = _work_queue(request)
    drafts = _drafts(request)
    home = {"items": [overview, *(line for line in (work, drafts) if line), *_stop(request)]}
    groups = (
        (_("Trading"), _trading(request)),
        (_("Exchange"), _exchange(request)),
        (_("Administration"), _administration(request)),
    )
    shown = ({"title": title, "items": [line for line in lines if line]} for title, lines in groups)
    return [home, *(group for group in shown if group["items"])]


def _stop(request: HttpRequest) -> list[Line]:
    if not request.user.has_perm("exchanges.halt_trading"):
        return []
    address = reverse("stop")
    active = request.path == address
    return [{"title": _("Stop"), "icon": "front_hand", "link": address, "active": active}]


def _trading(request: HttpRequest) -> list[Line]:
    return [
        _orders(request),
        _unresolved(request),
        _line(request, "orders.fill", _("Fills"), "done_all"),
        _line(request, "orders.position", _("Positions"), "pie_chart"),
        _breaks(request),
        _line(request, "orders.orderevent", _("Events"), "history"),
        _limits(request),
        _line(request, "orders.risklimitchange", _("Risk limit changes"), "manage_history"),
        _gate_preview(request),
        _by_hand(request),
    ]


def _exchange(request: HttpRequest) -> list[Line]:
    changes = _("Circuit breaker changes")
    return [
        _line(request, "exchanges.exchangeaccount", _("Accounts"), "account_balance"),
        _line(request, "exchanges.tradinghalt", _("Global halt"), "front_hand"),
        _line(request, "exchanges.breakerchange", changes, "electrical_services"),
        _line(request, "exchanges.lease", _("Leases"), "lock_clock"),
        _line(request, "exchanges.leasechange", _("Lease changes"), "lock_reset"),
        _balances(request),
        _tie_out(request),
        _line(request, "exchanges.instrument", _("Instruments"), "candlestick_chart"),
    ]


def _administration(request: HttpRequest) -> list[Line]:
    return [
        _line(request, "people.journalentry", _("Journal"), "history_edu"),
        _line(request, "auth.user", _("Users"), "person"),
        _line(request, "auth.group", _("Roles"), "group"),
        _line(request, "people.accountgrant", _("Account grants"), "key"),
        _line(request, "people.personsession", _("Sessions"), "devices"),
        _line(request, "people.linkedlogin", _("Linked logins"), "link"),
        _line(request, "orders.reviewrule", _("Rules for a second person"), "group_add"),
        _line(request, "exchanges.dutyrun", _("Duties"), "schedule"),
    ]


def _line(request: HttpRequest, model: str, title: str, icon: str, **more: Any) -> Line:
    app_label, _dot, name = model.partition(".")
    if not request.user.has_perm(f"{app_label}.view_{name}"):
        return None
    address = reverse(f"admin:{app_label}_{name}_changelist")
    return {
        "title": title,
        "icon": icon,
        "link": address,
        "active": request.path.startswith(address),
        **more,
    }


def _work_queue(request: HttpRequest) -> Line:
    line = _line(request, "desk.workitem", _("Work queue"), "assignment_late")
    return line and line | _badge(count_waiting(request), "danger")


def _drafts(request: HttpRequest) -> Line:
    line = _line(request, "people.changedraft", _("Drafts"), "rule")
    return line and line | _badge(count_drafts(request), "warning")


def title_prefix(request: HttpRequest) -> str | None:
    """Return how much waits for a person, for the title of every page: `(3)`."""
    if not request.user.has_perm("desk.view_workitem"):
        return None
    count = count_waiting(request)
    return f"({count})" if count else None


def _unresolved(request: HttpRequest) -> Line:
    line = _line(request, "orders.order", _("Unresolved"), "hourglass_top")
    if line is None:
        return None
    line["active"] = request.path == line["link"] and request.GET.get("phase") == UNRESOLVED
    rows = Order.objects.filter(status__in=[*states.UNRESOLVED])
    count = narrow(rows, request.user).count()
    return line | {"link": f"{line['link']}?phase={UNRESOLVED}"} | _badge(count, "warning")


def _breaks(request: HttpRequest) -> Line:
    line = _line(request, "orders.reconciliationbreak", _("Breaks"), "report")
    if line is None:
        return None
    return line | _badge(count_open_breaks(request), "danger")


def _orders(request: HttpRequest) -> Line:
    line = _line(request, "orders.order", _("Orders"), "receipt_long")
    return line and line | {
        "active": line["active"]
        and request.path != reverse("admin:orders_order_by_hand")
        and request.GET.get("phase") != UNRESOLVED
    }


def _limits(request: HttpRequest) -> Line:
    line = _line(request, "orders.risklimit", _("Risk limits"), "speed")
    return line and line | {
        "active": line["active"] and request.path != reverse("admin:orders_risklimit_ask")
    }


def _balances(request: HttpRequest) -> Line:
    line = _line(request, "exchanges.balance", _("Balances"), "account_balance_wallet")
    return line and line | {
        "active": line["active"] and request.path != reverse("admin:exchanges_balance_tie_out")
    }


def _tie_out(request: HttpRequest) -> Line:
    if not request.user.has_perm("orders.view_fill"):
        return None
    view = "admin:exchanges_balance_tie_out"
    return _verb(request, "exchanges.view_balance", _("Tie-out of the balances"), "balance", view)


def _gate_preview(request: HttpRequest) -> Line:
    return _verb(
        request, "orders.simulate_gate", _("Ask the gate"), "quiz", "admin:orders_risklimit_ask"
    )


def _by_hand(request: HttpRequest) -> Line:
    title = _("Place an order by hand")
    return _verb(request, "orders.place_by_hand", title, "edit_note", "admin:orders_order_by_hand")


def _verb(request: HttpRequest, permission: str, title: str, icon: str, view: str) -> Line:
    """Return the line of a page that isn't a list, for people with this permission."""
    if not request.user.has_perm(permission):
        return None
    address = reverse(view)
    return {"title": title, "icon": icon, "link": address, "active": request.path == address}


def _badge(count: int, variant: str) -> dict[str, Any]:
    return {"badge": count, "badge_variant": variant} if count else {}
