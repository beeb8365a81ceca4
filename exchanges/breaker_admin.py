"""The circuit breakers: their state on an account's page, the form that forces one, and the list of every change."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminRadioSelectWidget

from exchanges import services
from exchanges.errors import NotSent
from exchanges.models import BreakerChange, BreakerHold, CallKind, ExchangeAccount
from exchanges.pages import EMPTY, ReadOnlyRecords, ReasonForm, label, moment, utc

_TABLE = '<table class="desk-table">{}</table>'
_ROW = "<tr><td>{}</td><td>{}</td><td>{}</td></tr>"


class BreakerForm(ReasonForm):
    """Which breaker, what to make of it, and why."""

    kind = forms.ChoiceField(
        label=gettext_lazy("Kind of call"), choices=CallKind, widget=UnfoldAdminRadioSelectWidget, initial="place"
    )
    state = forms.ChoiceField(
        label=gettext_lazy("The breaker is"), choices=BreakerHold, widget=UnfoldAdminRadioSelectWidget
    )
    field_order = ("kind", "state", "reason")


def breakers_table(account: ExchangeAccount) -> str:
    """One line for each kind of call: its breaker's state, and the last time that a person forced it or let it go."""
    states = services.breaker_states(account)
    rows = ((kind.label, _state_label(states[kind]), _last_change(account, kind)) for kind in CallKind)
    return format_html(_TABLE, format_html_join("", _ROW, rows))


class BreakerVerb:
    """Mixed into the accounts' ModelAdmin: the column that shows the breakers, and the page that forces one."""

    admin_site: admin.AdminSite
    opts: Any
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
    def force_breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        back = reverse("admin:exchanges_exchangeaccount_change", args=[object_id])
        form = BreakerForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid() and _force(request, account, form.cleaned_data):
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Force a circuit breaker"),
            "opts": self.opts,
            "account": account,
            "breakers": breakers_table(account),
            "form": form,
            "back": back,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "desk/force_breaker.html", context)


def _force(request: HttpRequest, account: ExchangeAccount, answer: dict[str, Any]) -> bool:
    state = None if answer["state"] == BreakerHold.NONE else answer["state"]
    actor = request.user.get_username()
    try:
        services.force_breaker(account=account, kind=answer["kind"], state=state, reason=answer["reason"], actor=actor)
    except NotSent as error:
        messages.error(request, _("Nothing was changed: %(trouble)s") % {"trouble": error.message})
        return False
    kind, hold = CallKind(answer["kind"]).label, BreakerHold(answer["state"]).label
    messages.success(request, f"{account.name}, {kind}: {hold}")
    return True


def _state_label(state: str) -> str:
    shown = {
        "closed": (_("closed"), "success"),
        "open": (_("open"), "danger"),
        "forced open": (_("held open"), "danger"),
        "forced closed": (_("held closed"), "warning"),
        "unknown": (_("unknown: Redis is away"), ""),
    }
    return label(*shown[state])


def _last_change(account: ExchangeAccount, kind: CallKind) -> str:
    change = BreakerChange.objects.filter(account=account, kind=kind).order_by("-id").first()
    if change is None:
        return EMPTY
    return format_html("{} {}: {}. {}", utc(change.at), change.actor, change.get_state_display(), change.reason)


@admin.register(BreakerChange)
class BreakerChangeAdmin(ReadOnlyRecords, ModelAdmin):
    list_display = (moment(BreakerChange, "at"), "actor", "account", "kind", "state", "reason")
    list_display_links = None
    list_select_related = ("account",)
    sortable_by = ()
    search_fields = ("actor", "account__name")
