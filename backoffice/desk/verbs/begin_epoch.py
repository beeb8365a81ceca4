"""The verb that begins a new epoch of an account, after a reset of the exchange."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.mixins import Line, ReasonVerb
from backoffice.people.step_up import requires_recent_factor
from exchanges.models import ExchangeAccount
from orders import services
from orders.intents import InvalidIntent


class EpochVerb(ReasonVerb):
    """Mixin for the accounts' ModelAdmin: declare that the exchange was reset."""

    get_object: Any

    def has_begin_epoch_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.begin_epoch")

    @action(
        description=gettext_lazy("Begin a new epoch"),
        permissions=["begin_epoch"],
        url_path="epoch",
        icon="restart_alt",
        variant=ActionVariant.DANGER,
    )
    @requires_recent_factor
    def begin_epoch(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        epoch = _("epoch %(number)d") % {"number": account.epoch}
        return self.ask_then(
            request,
            lambda answer: _begin(request, account, answer["reason"]),
            back=reverse("admin:exchanges_exchangeaccount_change", args=[object_id]),
            template="desk/ask_more.html",
            title=_("Begin a new epoch"),
            question=_(
                "Was the exchange reset? All orders that are open now are declared lost, and the"
                " exchange's earlier numbers no longer count. A halted account stays halted."
            ),
            lines=[
                Line(
                    account.name,
                    f"{account.get_environment_display()}, {epoch}",
                    seen_name="seen",
                    seen=str(account.epoch),
                )
            ],
            button_variant="danger",
        )


def _begin(request: HttpRequest, account: ExchangeAccount, reason: str) -> bool:
    """Begin the epoch after the one that the person saw, and show the result."""
    seen = request.POST.get("seen", "")
    try:
        after = services.begin_epoch(
            account=account.name,
            begun_by=request.user.get_username(),
            reason=reason,
            seen_epoch=int(seen) if seen.isdecimal() else -1,
        )
    except InvalidIntent as error:
        messages.error(request, _("Nothing was changed: %(trouble)s") % {"trouble": error})
        return False
    words = {"account": account.name, "number": after.epoch}
    messages.success(request, _("%(account)s: Epoch %(number)d has begun.") % words)
    return True
