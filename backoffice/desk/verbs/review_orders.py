"""The verbs with which a second person releases or rejects a held order."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.mixins import Line, ReasonVerb
from backoffice.desk.reasons import shown_reason
from backoffice.people.four_eyes import maker_of, may_check
from backoffice.people.step_up import requires_recent_factor
from exchanges.types import plain
from orders.amounts import AMOUNTS
from orders.execution import enqueue_place
from orders.models import Order
from orders.placing.holding import reject_held, release_held


class ReviewVerb(ReasonVerb):
    """Mixin for the orders' ModelAdmin: release or reject an order that waits."""

    get_object: Any

    def has_release_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("orders.release_order")

    @action(
        description=gettext_lazy("Release this order"),
        permissions=["release"],
        url_path="release",
        icon="verified",
    )
    @requires_recent_factor
    def release_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._review(
            request,
            object_id,
            title=_("Release this order"),
            question=_(
                "Release exactly this order? The gate checks it again, then it is sent to the"
                " exchange."
            ),
            is_release=True,
        )

    @action(
        description=gettext_lazy("Reject this order"),
        permissions=["release"],
        url_path="reject",
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def reject_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._review(
            request,
            object_id,
            title=_("Reject this order"),
            question=_("Reject this order? It is closed, and its reserved money is released."),
            is_release=False,
        )

    def _review(
        self, request: HttpRequest, object_id: str, *, title: str, question: str, is_release: bool
    ) -> HttpResponse:
        order = self.get_object(request, object_id)
        if order is None:
            raise Http404
        back = reverse("admin:orders_order_change", args=[object_id])
        if is_release and not may_check(request.user, maker_of(order)):
            messages.error(request, _("You made this order. Another person must release it."))
            return HttpResponseRedirect(back)
        return self.ask_then(
            request,
            lambda answer: _do(request, order, answer["reason"], is_release=is_release),
            back=back,
            template="desk/ask_more.html",
            title=title,
            question=question,
            lines=[
                Line(
                    f"{order.account.name}: {order.intent_id}",
                    _figures(order),
                    seen_name="seen",
                    seen=str(order.version),
                )
            ],
            button_variant="primary" if is_release else "danger",
        )


def _figures(order: Order) -> str:
    """Return the order in words, as the person sees and releases it."""
    words = [order.side, order.symbol, order.order_type]
    words += [
        f"{name} {plain(value)}" for name in AMOUNTS if (value := getattr(order, name)) is not None
    ]
    return ", ".join([" ".join(words), shown_reason(order.reason)])


def _do(request: HttpRequest, order: Order, reason: str, *, is_release: bool) -> bool:
    """Release or reject, and show the result, also if another person was faster."""
    seen = request.POST.get("seen", "")
    version = int(seen) if seen.isdecimal() else -1
    name = request.user.get_username()
    if is_release:
        is_done = release_held(order, released_by=name, reason=reason, seen_version=version)
    else:
        is_done = reject_held(order, rejected_by=name, reason=reason, seen_version=version)
    if not is_done:
        messages.warning(
            request, _("Nothing was changed: the order no longer waits as you saw it.")
        )
    elif is_release:
        transaction.on_commit(partial(enqueue_place, order.pk))
        messages.success(request, _("Released. The gate checks the order again."))
    else:
        messages.success(request, _("Rejected. The order is closed."))
    return True
