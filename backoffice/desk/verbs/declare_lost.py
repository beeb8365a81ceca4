"""The verb that declares an order lost."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.mixins import Line, ReasonVerb
from orders import services, states
from orders.intents import InvalidIntent
from orders.models import EventType, Order, OrderEvent


class LostVerb(ReasonVerb):
    """Mixin for the orders' ModelAdmin: close an order that the exchange will never report."""

    get_object: Any
    has_view_permission: Any

    def has_declare_lost_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("orders.declare_lost")

    @action(
        description=gettext_lazy("Declare lost"),
        permissions=["declare_lost"],
        url_path="lost",
        icon="search_off",
        variant=ActionVariant.DANGER,
    )
    def declare_lost(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = self.get_object(request, object_id)
        if order is None:
            raise Http404
        if not self.has_view_permission(request, order):
            raise PermissionDenied
        return self.ask_then(
            request,
            lambda answer: _declare(request, order, answer["reason"]),
            back=reverse("admin:orders_order_change", args=[object_id]),
            template="desk/ask_more.html",
            title=_("Declare lost"),
            question=_(
                "Declare this order lost? It is closed without asking the exchange, and its"
                " reserved money is released. If the exchange shows it after all, the order takes"
                " the exchange's state."
            ),
            lines=[
                Line(
                    f"{order.account.name}: {order.intent_id}",
                    order.get_status_display(),
                    seen_name="seen",
                    seen=order.status,
                )
            ],
            button_variant="danger",
        )


def may_be_lost(order: Order) -> bool:
    """Return whether something of the order may be open at the exchange."""
    return order.open_attempts > 0 or order.status in states.IN_FLIGHT | states.OPEN


def _declare(request: HttpRequest, order: Order, reason: str) -> bool:
    """Declare the order lost and show the result, also if another person was faster."""
    actor = request.user.get_username()
    if request.POST.get("seen") != order.status:
        messages.error(request, _("The order has changed since you saw it. Nothing was changed."))
        return False
    events = OrderEvent.objects.filter(order=order, event_type=EventType.DECLARED_LOST)
    last = events.order_by("-id").values_list("id", flat=True).first() or 0
    try:
        after = services.declare_lost(
            account=order.account.name,
            intent_id=order.intent_id,
            declared_by=actor,
            reason=reason,
        )
    except InvalidIntent as error:
        messages.error(request, _("Nothing was changed: %(trouble)s") % {"trouble": error})
        return True
    if events.filter(id__gt=last, actor=actor).exists():
        text = _("Declared lost. The order is %(status)s.")
        messages.success(request, text % {"status": after.get_status_display()})
    else:
        messages.warning(request, _("Another person was faster. Nothing was changed."))
    return True
