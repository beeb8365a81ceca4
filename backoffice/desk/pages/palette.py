"""The command palette: every page, every verb, and any order by its ID."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from unfold.dataclasses import SearchResult

from backoffice.desk.lists.search import find_orders
from backoffice.desk.sidebar import sidebar
from backoffice.people.grants import account_ids, narrow
from orders.models import Order

MAX_ORDERS = 8


def search(request: HttpRequest, text: str) -> list[SearchResult]:
    """Return the pages and verbs that contain the text, and the orders that it names."""
    words = text.lower().split()
    found = [
        one
        for one in (*_verbs(request), *_pages(request))
        if all(word in f"{one.title} {one.description}".lower() for word in words)
    ]
    return [*found, *_orders(request, text)]


def _pages(request: HttpRequest) -> Iterator[SearchResult]:
    for group in sidebar(request):
        for item in group["items"]:
            where = str(group.get("title", ""))
            yield SearchResult(str(item["title"]), where, item["link"], item.get("icon"))


def _verbs(request: HttpRequest) -> Iterator[SearchResult]:
    """Yield each verb of the person with the page where it is pressed."""
    orders = reverse("admin:orders_order_changelist")
    accounts = reverse("admin:exchanges_exchangeaccount_changelist")
    breaks = reverse("admin:orders_reconciliationbreak_changelist")
    verbs = (
        ("orders.cancel_order", _("Cancel orders"), f"{orders}?phase=open", "cancel"),
        ("orders.declare_lost", _("Declare orders lost"), f"{orders}?phase=unresolved", "help"),
        ("orders.close_break", _("Close breaks"), f"{breaks}?state=open", "task_alt"),
        ("exchanges.halt_trading", _("Halt trading"), accounts, "front_hand"),
        ("exchanges.resume_trading", _("Resume trading"), accounts, "play_arrow"),
        ("exchanges.reconcile_account", _("Reconcile accounts"), accounts, "sync"),
        ("orders.mark_symbol_gone", _("Mark a symbol as gone"), accounts, "link_off"),
        ("exchanges.begin_epoch", _("Begin a new epoch"), accounts, "restart_alt"),
        (
            "orders.simulate_gate",
            _("Ask the gate"),
            reverse("admin:orders_risklimit_ask"),
            "quiz",
        ),
        (
            "orders.view_order",
            _("Export orders"),
            reverse("admin:orders_order_export_csv"),
            "download",
        ),
    )
    for permission, title, link, icon in verbs:
        if request.user.has_perm(permission):
            yield SearchResult(title, _("verb"), link, icon)


def _orders(request: HttpRequest, text: str) -> Iterator[SearchResult]:
    if not request.user.has_perm("orders.view_order"):
        return
    accounts = account_ids(request.user)
    keys = sorted(find_orders(text, accounts=accounts), reverse=True)[:MAX_ORDERS]
    found = narrow(Order.objects.filter(pk__in=keys), request.user)
    for order in found.select_related("account"):
        yield SearchResult(
            f"{order.side} {order.symbol} {order.intent_id}",
            f"{order.account.name}, {order.get_status_display()}",
            reverse("admin:orders_order_change", args=[order.pk]),
            "receipt_long",
        )
