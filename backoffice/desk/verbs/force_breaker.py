"""The verb that forces a circuit breaker, and the table of the breakers of an account."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.widgets import UnfoldAdminRadioSelectWidget

from backoffice.desk.lists.columns import label, utc
from backoffice.desk.mixins import ReasonForm, ReasonVerb
from backoffice.people.step_up import requires_recent_factor
from exchanges import breakers as exchanges_breakers
from exchanges.errors import NotSent
from exchanges.models import CALL_KIND_LABELS, BreakerChange, BreakerHold, ExchangeAccount

_TABLE = '<table class="desk-table">{}</table>'
_ROW = "<tr><td>{}</td><td>{}</td><td>{}</td></tr>"


class BreakerForm(ReasonForm):
    """Ask for the kind of call, the new state of its breaker, and the reason."""

    kind = forms.ChoiceField(
        label=gettext_lazy("Kind of call"),
        choices=CALL_KIND_LABELS,
        widget=UnfoldAdminRadioSelectWidget,
        initial="place",
    )
    state = forms.ChoiceField(
        label=gettext_lazy("State of the breaker"),
        choices=BreakerHold,
        widget=UnfoldAdminRadioSelectWidget,
    )
    field_order = ("kind", "state", "reason")


def breakers_table(account: ExchangeAccount) -> str:
    """Return a table with the state of each breaker, and the last change that a person made."""
    states = exchanges_breakers.breaker_states(account)
    rows = (
        (name, _state_label(states[kind]), _last_change(account, kind))
        for kind, name in CALL_KIND_LABELS.items()
    )
    return format_html(_TABLE, format_html_join("", _ROW, rows))


class BreakerVerb(ReasonVerb):
    """Mixin for the accounts' ModelAdmin: a table of the breakers, and a verb to force one."""

    get_object: Any

    def has_force_breaker_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.force_breaker")

    @admin.display(description=gettext_lazy("Circuit breakers"))
    def breakers(self, account: ExchangeAccount) -> str:
        return breakers_table(account)

    @action(
        description=gettext_lazy("Force a circuit breaker"),
        permissions=["force_breaker"],
        url_path="breaker",
        icon="electrical_services",
    )
    @requires_recent_factor
    def force_breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        return self.ask_then(
            request,
            lambda answer: _force(request, account, answer),
            back=reverse("admin:exchanges_exchangeaccount_change", args=[object_id]),
            template="desk/force_breaker.html",
            form_class=BreakerForm,
            title=_("Force a circuit breaker"),
            account=account,
            breakers=breakers_table(account),
        )


def _force(request: HttpRequest, account: ExchangeAccount, answer: dict[str, Any]) -> bool:
    state = None if answer["state"] == BreakerHold.NONE else answer["state"]
    actor = request.user.get_username()
    try:
        exchanges_breakers.force_breaker(
            account=account, kind=answer["kind"], state=state, reason=answer["reason"], actor=actor
        )
    except NotSent as error:
        messages.error(request, _("Nothing was changed: %(trouble)s") % {"trouble": error.message})
        return False
    kind, hold = CALL_KIND_LABELS[answer["kind"]], BreakerHold(answer["state"]).label
    messages.success(request, f"{account.name}, {kind}: {hold}")
    return True


def _state_label(state: str) -> str:
    shown = {
        "closed": (_("closed"), "success"),
        "open": (_("open"), "danger"),
        "forced open": (_("held open"), "danger"),
        "forced closed": (_("held closed"), "warning"),
        "unknown": (_("unknown: Redis does not answer"), ""),
    }
    return label(*shown[state])


def _last_change(account: ExchangeAccount, kind: str) -> str:
    change = BreakerChange.objects.filter(account=account, kind=kind).order_by("-id").first()
    if change is None:
        return _("never forced")
    return format_html(
        "{} {}: {}. {}", utc(change.at), change.actor, change.get_state_display(), change.reason
    )
