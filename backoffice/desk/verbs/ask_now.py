"""The verb that asks the exchange about an order at once."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action

from backoffice.desk.verbs.asking_first import ask_first
from exchanges.errors import GatewayError
from orders.asking import ask_now
from orders.models import Order, Status


def may_be_asked(order: Order) -> bool:
    """Return whether the exchange can know the order: a request for it left, or may have left."""
    return order.attempt > 0 or order.is_external


class AskVerb:
    """Mixin for the orders' ModelAdmin: ask the exchange and record its answer."""

    get_object: Any
    has_view_permission: Any

    def has_ask_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.reconcile_account")

    @action(
        description=gettext_lazy("Ask the exchange now"),
        permissions=["ask"],
        url_path="ask",
        icon="sync",
    )
    def ask_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order: Order | None = self.get_object(request, object_id)
        if order is None:
            raise Http404
        if not self.has_view_permission(request, order):
            raise PermissionDenied
        if request.method != "POST":
            subject = f"{order.account.name}: {order.intent_id}"
            return ask_first(self, request, title=_("Ask the exchange now"), subject=subject)
        level, text = _answer(order)
        messages.add_message(request, level, text)
        return HttpResponseRedirect(reverse("admin:orders_order_change", args=[object_id]))


def _answer(order: Order) -> tuple[int, str]:
    """Ask, and return the level and the text of the answer."""
    if not may_be_asked(order):
        return messages.INFO, _("The order was never sent, so the exchange can't know it.")
    before = order.version
    try:
        order, unknown = ask_now(order)
    except GatewayError as error:
        text = _("Could not ask the exchange: %(error)s")
        return messages.ERROR, text % {"error": error}
    if unknown:
        text = _(
            "The exchange doesn't know %(names)s at this moment. This proves nothing yet: the back"
            " office keeps asking."
        )
        return messages.WARNING, text % {"names": ", ".join(unknown)}
    status = Status(order.status).label
    if order.version == before:
        return messages.SUCCESS, _("The exchange agrees: %(status)s.") % {"status": status}
    text = _("The exchange knew more. The order is now: %(status)s.")
    return messages.SUCCESS, text % {"status": status}
