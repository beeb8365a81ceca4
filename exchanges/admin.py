"""Accounts and what is known of their exchange. Trading is halted and resumed by verbs that ask for a reason."""

from __future__ import annotations

import os
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant

from exchanges import services
from exchanges.breaker_admin import BreakerVerb
from exchanges.credentials import OWN_HOSTS, variable
from exchanges.models import Balance, Environment, ExchangeAccount, Instrument, StreamState, TradingHalt, TradingState
from exchanges.pages import (
    EMPTY,
    ENVIRONMENT_COLOURS,
    STATE_COLOURS,
    ReadOnlyRecords,
    ReasonForm,
    field_name,
    figure,
    label,
    moment,
    stream_label,
    utc,
)
from exchanges.types import plain

# The status words of `orders.states`, which this app does not import; a test holds them equal.
OPEN_STATUSES = ("NEW", "PARTIALLY_FILLED")
UNRESOLVED_STATUSES = ("CREATED", "PENDING_NEW")
_NAMED_ROW = "<tr><td>{}</td><td>{}</td></tr>"
_VARIABLE_ROW = "<tr><td><code>{}</code></td><td>{}</td></tr>"
VARIABLES = ("API_KEY", "API_SECRET", "API_SECRET_FILE", "REST_URL", "WS_URL")

_VARIABLES_NOTE = gettext_lazy("As the web process sees them. Their values are shown nowhere.")
_HALT_QUESTION = gettext_lazy("Halt trading? No new order is sent; open orders stay at the exchange.")
_RESUME_QUESTION = gettext_lazy("Resume trading? Orders are sent again.")
_REDUCE_QUESTION = gettext_lazy("Only reduce? Nothing is bought any more; what is held may be sold for money.")
# Title and question of each verb.
_VERBS = {
    "halt": (gettext_lazy("Halt trading"), _HALT_QUESTION),
    "reduce": (gettext_lazy("Only reduce"), _REDUCE_QUESTION),
    "resume": (gettext_lazy("Resume trading"), _RESUME_QUESTION),
}


class TradingVerbs:
    """Mixed into a ModelAdmin: the page that asks why, for halting, reducing and resuming."""

    admin_site: admin.AdminSite
    opts: Any

    def has_halt_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.halt_trading")

    def has_resume_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.resume_trading")

    def switch(
        self,
        request: HttpRequest,
        accounts: list[ExchangeAccount | None],
        *,
        verb: str,
        back: str,
    ) -> HttpResponse:
        """Ask for a reason, then switch each account; None stands for all trading, which cannot be reduced."""
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            for account in accounts:
                self._switch_one(request, account, verb=verb, reason=form.cleaned_data["reason"])
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": _VERBS[verb][0],
            "question": _VERBS[verb][1],
            "opts": self.opts,
            "accounts": accounts,
            "verb": verb,
            "form": form,
            "back": back,
            "selected_name": ACTION_CHECKBOX_NAME,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "desk/switch_trading.html", context)

    def _switch_one(self, request: HttpRequest, account: ExchangeAccount | None, *, verb: str, reason: str) -> None:
        actor = request.user.get_username()
        if verb == "halt":
            services.halt_trading(account=account, reason=reason, actor=actor)
        elif verb == "reduce" and account is not None:
            if not services.reduce_trading(account=account, reason=reason, actor=actor):
                messages.error(request, f"{account.name}: {_('it is halted, and stays so: resume it first')}")
                return
        else:
            try:
                services.resume_trading(account=account, reason=reason, actor=actor)
            except services.UnsafeAccount as unsafe:
                messages.error(request, str(unsafe))
                return
        done = {"halt": _("trading halted"), "reduce": _("only reduces"), "resume": _("trading resumed")}[verb]
        whose = account.name if account else _("All accounts")
        messages.success(request, f"{whose}: {done}")


@admin.register(ExchangeAccount)
class ExchangeAccountAdmin(TradingVerbs, BreakerVerb, ModelAdmin):
    list_display = (
        "name",
        "environment_label",
        "is_enabled",
        "state_label",
        "trading_state_reason",
        moment(ExchangeAccount, "last_synced_at"),
        "stream_state",
        "open_orders",
        "unresolved_orders",
        "credentials_label",
    )
    actions = ("halt_selected", "reduce_selected", "resume_selected", "reconcile_selected")
    actions_detail = ("halt_this", "reduce_this", "resume_this", "force_breaker")
    add_fieldsets = ((None, {"fields": ("name", "exchange", "environment", "is_enabled")}),)
    state_fields = ("state_label", "trading_state_reason", "last_synced_time", "balances_synced_time")
    stream_fields = ("stream_state", "stream_details")
    list_select_related = ("stream",)
    fieldsets = (
        (None, {"fields": ("name", ("exchange", "environment"), "is_enabled")}),
        (gettext_lazy("State"), {"fields": (state_fields[:2], state_fields[2:], *stream_fields, "breakers")}),
        (gettext_lazy("Environment variables"), {"fields": ("variables",), "description": _VARIABLES_NOTE}),
    )
    last_synced_time = staticmethod(moment(ExchangeAccount, "last_synced_at"))
    balances_synced_time = staticmethod(moment(ExchangeAccount, "balances_synced_at"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        return ("name", "exchange", "environment", *self.state_fields, *self.stream_fields, "breakers", "variables")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExchangeAccount]:
        counts = {"open_count": _orders_with(OPEN_STATUSES), "unresolved_count": _orders_with(UNRESOLVED_STATUSES)}
        queryset: QuerySet[ExchangeAccount] = super().get_queryset(request).annotate(**counts)
        return queryset

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """An account is switched off, never deleted: its orders and their ids stay."""
        return False

    # Columns

    @admin.display(description=gettext_lazy("Environment"), ordering="environment")
    def environment_label(self, account: ExchangeAccount) -> str:
        return environment_text(account)

    @admin.display(description=gettext_lazy("Trading"), ordering="trading_state")
    def state_label(self, account: ExchangeAccount) -> str:
        return label(account.get_trading_state_display(), STATE_COLOURS[TradingState(account.trading_state)])

    @admin.display(description=gettext_lazy("User stream"))
    def stream_state(self, account: ExchangeAccount) -> str:
        return stream_label(account)

    @admin.display(description=gettext_lazy("Of the user stream"))
    def stream_details(self, account: ExchangeAccount) -> str:
        stream: StreamState | None = getattr(account, "stream", None)
        if stream is None:
            return EMPTY
        times = ("connected_since", "in_sync_since", "alive_at", "last_event_at")
        rows = [(field_name(StreamState, name), utc(getattr(stream, name))) for name in times]
        lag = EMPTY if stream.lag_ms is None else str(stream.lag_ms)
        rows.append((field_name(StreamState, "lag_ms"), lag))
        rows.append((field_name(StreamState, "reason"), stream.reason or EMPTY))
        return format_html('<table class="desk-table">{}</table>', format_html_join("", _NAMED_ROW, rows))

    @admin.display(description=gettext_lazy("Open orders"))
    def open_orders(self, account: Any) -> str:
        return _orders_link(account, "open", account.open_count)

    @admin.display(description=gettext_lazy("Unresolved"))
    def unresolved_orders(self, account: Any) -> str:
        return _orders_link(account, "unresolved", account.unresolved_count)

    @admin.display(description=gettext_lazy("Credentials"))
    def credentials_label(self, account: ExchangeAccount) -> str:
        has_secret = is_set(account, "API_SECRET") or is_set(account, "API_SECRET_FILE")
        complete = is_set(account, "API_KEY") and has_secret
        return label(_("set"), "success") if complete else label(_("missing"), "danger")

    @admin.display(description=gettext_lazy("Expected"))
    def variables(self, account: ExchangeAccount) -> str:
        """Names of the variables and whether they are set. Never a value, not even a part of one."""
        rows = ((variable(account, suffix), _state_of(account, suffix)) for suffix in VARIABLES)
        return format_html('<table class="desk-table">{}</table>', format_html_join("", _VARIABLE_ROW, rows))

    # Verbs

    @admin.action(description=gettext_lazy("Halt trading"), permissions=["halt"])
    def halt_selected(self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]) -> HttpResponse:
        return self.switch(request, [*queryset], verb="halt", back=request.get_full_path())

    @admin.action(description=gettext_lazy("Only reduce"), permissions=["halt"])
    def reduce_selected(self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]) -> HttpResponse:
        return self.switch(request, [*queryset], verb="reduce", back=request.get_full_path())

    @admin.action(description=gettext_lazy("Resume trading"), permissions=["resume"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]) -> HttpResponse:
        return self.switch(request, [*queryset], verb="resume", back=request.get_full_path())

    def has_reconcile_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.reconcile_account")

    @admin.action(description=gettext_lazy("Compare with the exchange"), permissions=["reconcile"])
    def reconcile_selected(self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]) -> None:
        for account in queryset:
            if services.enqueue_reconciliation(account, requested_by=request.user.get_username()):
                messages.success(request, _("%(account)s: the comparison has been enqueued.") % {"account": account})
            else:
                text = _("%(account)s: the comparison could not be enqueued: the broker does not answer.")
                messages.error(request, text % {"account": account})

    @action(
        description=gettext_lazy("Halt trading"),
        permissions=["halt"],
        url_path="halt",
        icon="front_hand",
        variant=ActionVariant.DANGER,
    )
    def halt_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_this(request, object_id, verb="halt")

    @action(description=gettext_lazy("Only reduce"), permissions=["halt"], url_path="reduce", icon="trending_down")
    def reduce_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_this(request, object_id, verb="reduce")

    @action(description=gettext_lazy("Resume trading"), permissions=["resume"], url_path="resume", icon="play_arrow")
    def resume_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_this(request, object_id, verb="resume")

    def _switch_this(self, request: HttpRequest, object_id: str, *, verb: str) -> HttpResponse:
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        back = reverse("admin:exchanges_exchangeaccount_change", args=[object_id])
        return self.switch(request, [account], verb=verb, back=back)


def environment_text(row: ExchangeAccount | Instrument) -> str:
    return label(row.get_environment_display(), ENVIRONMENT_COLOURS[Environment(row.environment)])


def is_set(account: ExchangeAccount, suffix: str) -> bool:
    return bool(os.environ.get(variable(account, suffix), "").strip())


def _state_of(account: ExchangeAccount, suffix: str) -> str:
    if is_set(account, suffix):
        return _("set")
    if suffix in ("REST_URL", "WS_URL") and account.environment in OWN_HOSTS:
        return _("not set: Binance's own host")
    if suffix == "API_SECRET_FILE" and is_set(account, "API_SECRET"):
        return _("not set, not needed")
    return _("not set")


def _orders_with(statuses: tuple[str, ...]) -> Coalesce:
    """Number of an account's orders in these statuses, by the partial index of just those."""
    own = ExchangeAccount.objects.filter(pk=OuterRef("pk"), orders__status__in=statuses).order_by()
    return Coalesce(Subquery(own.values("pk").annotate(count=Count("orders")).values("count")), 0)


def _orders_link(account: ExchangeAccount, phase: str, count: int) -> str:
    address = reverse("admin:orders_order_changelist")
    return format_html(
        '<a class="desk-link" href="{}?phase={}&amp;account__id__exact={}">{}</a>', address, phase, account.pk, count
    )


# -- The halt of everything ----------------------------------------------------------------------------------------


@admin.register(TradingHalt)
class TradingHaltAdmin(ReadOnlyRecords, TradingVerbs, ModelAdmin):
    """One row: its list leads to its page."""

    fields = readonly_fields = ("state", "reason", "changed_time", "changed_by")
    actions_detail = ("halt_all", "resume_all")
    changed_time = staticmethod(moment(TradingHalt, "changed_at"))

    @admin.display(description=gettext_lazy("All trading"))
    def state(self, halt: TradingHalt) -> str:
        if halt.is_halted:
            return label(_("halted"), "danger")
        return label(_("not halted: each account's own state counts"), "success")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:exchanges_tradinghalt_change", args=[TradingHalt.ROW]))

    @action(
        description=gettext_lazy("Halt all trading"),
        permissions=["halt"],
        url_path="halt",
        icon="front_hand",
        variant=ActionVariant.DANGER,
    )
    def halt_all(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_all(request, verb="halt")

    @action(description=gettext_lazy("Resume trading"), permissions=["resume"], url_path="resume", icon="play_arrow")
    def resume_all(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_all(request, verb="resume")

    def _switch_all(self, request: HttpRequest, *, verb: str) -> HttpResponse:
        back = reverse("admin:exchanges_tradinghalt_change", args=[TradingHalt.ROW])
        return self.switch(request, [None], verb=verb, back=back)


# -- Instruments and balances --------------------------------------------------------------------------------------


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyRecords, ModelAdmin):
    list_display = (
        "symbol",
        "environment_label",
        "status_label",
        "base_asset",
        "quote_asset",
        "tick",
        "step",
        "minimum_notional",
        moment(Instrument, "updated_at"),
    )
    list_filter = (("environment", ChoicesDropdownFilter), "status")
    list_per_page = 50
    search_fields = ("symbol__startswith", "base_asset__exact", "quote_asset__exact")
    fields = readonly_fields = (
        "symbol",
        "exchange",
        "environment_label",
        "status_label",
        "base_asset",
        "quote_asset",
        "quote_precision",
        "quote_order_quantity_allowed",
        "order_types_text",
        "filters_table",
        "updated_time",
    )
    updated_time = staticmethod(moment(Instrument, "updated_at"))

    @admin.display(description=gettext_lazy("Environment"), ordering="environment")
    def environment_label(self, instrument: Instrument) -> str:
        return environment_text(instrument)

    @admin.display(description=gettext_lazy("Status"), ordering="status")
    def status_label(self, instrument: Instrument) -> str:
        return label(instrument.status, "success" if instrument.status == "TRADING" else "")

    @admin.display(description=gettext_lazy("Price step"))
    def tick(self, instrument: Instrument) -> str:
        return _figure_of(instrument, "PRICE_FILTER", "tickSize")

    @admin.display(description=gettext_lazy("Quantity step"))
    def step(self, instrument: Instrument) -> str:
        return _figure_of(instrument, "LOT_SIZE", "stepSize")

    @admin.display(description=gettext_lazy("Least notional"))
    def minimum_notional(self, instrument: Instrument) -> str:
        figures = (_figure_of(instrument, name, "minNotional") for name in ("NOTIONAL", "MIN_NOTIONAL"))
        return next((text for text in figures if text != EMPTY), EMPTY)

    @admin.display(description=gettext_lazy("Order types"))
    def order_types_text(self, instrument: Instrument) -> str:
        return ", ".join(map(str, instrument.order_types)) or EMPTY

    @admin.display(description=gettext_lazy("Filters"))
    def filters_table(self, instrument: Instrument) -> str:
        rows = ((item.get("filterType", ""), _filter_text(item)) for item in instrument.filters)
        return format_html('<table class="desk-table">{}</table>', format_html_join("", _VARIABLE_ROW, rows))


def _figure_of(instrument: Instrument, filter_type: str, name: str) -> str:
    value = instrument.rules.figure(filter_type, name)
    return plain(value) if value else EMPTY


def _filter_text(item: dict[str, Any]) -> str:
    """`maxPrice 1000000, minPrice 0.01`: the figures of one filter, without trailing zeros."""
    return ", ".join(f"{name} {_plain_text(item[name])}" for name in sorted(item) if name != "filterType")


def _plain_text(value: Any) -> str:
    try:
        return plain(Decimal(value)) if isinstance(value, str) else str(value)
    except InvalidOperation:
        return str(value)


@admin.register(Balance)
class BalanceAdmin(ReadOnlyRecords, ModelAdmin):
    list_display = (
        "asset",
        "account",
        figure(Balance, "free"),
        figure(Balance, "locked"),
        figure(Balance, "reserved"),
        moment(Balance, "updated_at"),
    )
    list_display_links = None
    list_filter = (("account", RelatedDropdownFilter),)
    list_filter_submit = True
    list_select_related = ("account",)
    list_per_page = 50
    search_fields = ("asset__exact",)
    fields = readonly_fields = list_display
