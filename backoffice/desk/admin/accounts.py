"""Accounts: their state, credentials, user stream and breakers, and the verbs on trading."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.admin.journal import TouchedVerb
from backoffice.desk.drafts.forms import DraftedChanges
from backoffice.desk.key_age import key_label
from backoffice.desk.lists.columns import (
    EMPTY,
    STATE_COLORS,
    environment_text,
    field_name,
    label,
    moment,
    stream_label,
    utc,
)
from backoffice.desk.verbs.asking_first import ask_first
from backoffice.desk.verbs.begin_epoch import EpochVerb
from backoffice.desk.verbs.force_breaker import BreakerVerb
from backoffice.desk.verbs.mark_gone import SymbolVerb
from backoffice.desk.verbs.switch_trading import TradingVerbs
from backoffice.people.account_rows import AccountRows
from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.step_up import RecentFactorToChange
from exchanges import clock, trading_state
from exchanges.credentials import OWN_HOSTS, variable
from exchanges.errors import GatewayError
from exchanges.models import AccountSync, Environment, ExchangeAccount, StreamState, TradingState
from orders import states
from orders.models import ReviewKind
from orders.reconciliation import enqueue

_NAMED_ROW = "<tr><td>{}</td><td>{}</td></tr>"
_VARIABLE_ROW = "<tr><td><code>{}</code></td><td>{}</td></tr>"
VARIABLES = ("API_KEY", "API_SECRET", "API_SECRET_FILE", "REST_URL", "WS_URL")

_VARIABLES_NOTE = gettext_lazy(
    "The web process sees these variables. Their values are never shown. It needs no key: workers"
    " and the listener hold the keys. The link below asks a worker to check the key."
)


@admin.register(ExchangeAccount)
class ExchangeAccountAdmin(
    AccountRows,
    JournaledAdmin,
    TouchedVerb,
    TradingVerbs,
    BreakerVerb,
    SymbolVerb,
    EpochVerb,
    RecentFactorToChange,
    DraftedChanges,
    ModelAdmin,
):
    empty_text = gettext_lazy("No accounts yet")
    empty_hint = gettext_lazy(
        "Add an account, and put its key into the environment. The account's page names"
        " the variables."
    )
    draft_kind = ReviewKind.LIVE
    account_path = ""
    list_display = (
        "name",
        "environment_label",
        "is_enabled",
        "state_label",
        "trading_state_reason",
        moment(AccountSync, "last_synced_at"),
        "stream_state",
        "open_orders",
        "unresolved_orders",
        "credentials_label",
        "key_age",
    )
    actions = ("halt_selected", "reduce_selected", "resume_selected", "reconcile_selected")
    actions_detail = (
        *("halt_this", "reduce_this", "resume_this"),
        *("check_key", "force_breaker", "mark_gone", "begin_epoch", "who_touched"),
    )
    add_fieldsets = ((None, {"fields": ("name", "exchange", "environment", "is_enabled")}),)
    state_fields = (
        "state_label",
        "trading_state_reason",
        "last_synced_time",
        "balances_synced_time",
    )
    stream_fields = ("stream_state", "stream_details")
    list_select_related = ("stream", "sync")
    fieldsets = (
        (None, {"fields": ("name", ("exchange", "environment"), "is_enabled")}),
        (
            gettext_lazy("State"),
            {"fields": (state_fields[:2], state_fields[2:], *stream_fields, "breakers")},
        ),
        (
            gettext_lazy("Environment variables"),
            {"fields": ("variables", "key_age"), "description": _VARIABLES_NOTE},
        ),
    )
    last_synced_time = staticmethod(moment(AccountSync, "last_synced_at"))
    balances_synced_time = staticmethod(moment(AccountSync, "balances_synced_at"))

    def subject_of(self, obj: ExchangeAccount) -> str:
        return f"account:{obj.name}"

    touched_name = subject_of

    def account_of(self, obj: ExchangeAccount) -> str:
        return obj.name

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        return (
            "name",
            "exchange",
            "environment",
            *self.state_fields,
            *self.stream_fields,
            "breakers",
            "variables",
            "key_age",
        )

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Leave out the check of the key: its link stands with the variables."""
        buttons = super().get_actions_detail(request, object_id)
        return [button for button in buttons if not button.action_name.endswith("_check_key")]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExchangeAccount]:
        counts = {
            "open_count": _orders_with(states.OPEN),
            "unresolved_count": _orders_with(states.UNRESOLVED),
        }
        queryset: QuerySet[ExchangeAccount] = super().get_queryset(request).annotate(**counts)
        return queryset

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write only the columns that the person changed: a halt may have come meanwhile."""
        stored = ExchangeAccount.objects.get(pk=obj.pk) if change else None
        self.require_second_person(request, stored, obj)
        self.remember_before(request, obj, change=change)
        if not change:
            obj.save()
        elif form.changed_data:
            obj.save(update_fields=[*form.changed_data])

    def loosens(self, before: ExchangeAccount | None, after: ExchangeAccount | None) -> bool:
        if after is None or after.environment != Environment.LIVE:
            return False
        return before is None or (after.is_enabled and not before.is_enabled)

    def accounts_of_draft(self, row: ExchangeAccount) -> ExchangeAccount | None:
        return row if row.pk else None

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse. An account can be disabled, but its orders and their IDs must stay."""
        return False

    # Columns

    @admin.display(description=gettext_lazy("Environment"), ordering="environment")
    def environment_label(self, account: ExchangeAccount) -> str:
        return environment_text(account)

    @admin.display(description=gettext_lazy("Trading"), ordering="trading_state")
    def state_label(self, account: ExchangeAccount) -> str:
        return label(
            account.get_trading_state_display(), STATE_COLORS[TradingState(account.trading_state)]
        )

    @admin.display(description=gettext_lazy("User stream"))
    def stream_state(self, account: ExchangeAccount) -> str:
        return stream_label(account)

    @admin.display(description=gettext_lazy("User stream details"))
    def stream_details(self, account: ExchangeAccount) -> str:
        stream: StreamState | None = getattr(account, "stream", None)
        if stream is None:
            return EMPTY
        times = ("connected_since", "in_sync_since", "alive_at", "last_event_at")
        rows = [(field_name(StreamState, name), utc(getattr(stream, name))) for name in times]
        lag = EMPTY if stream.lag_ms is None else str(stream.lag_ms)
        rows.append((field_name(StreamState, "lag_ms"), lag))
        rows.append((field_name(StreamState, "reason"), stream.reason or EMPTY))
        return format_html(
            '<table class="desk-table">{}</table>', format_html_join("", _NAMED_ROW, rows)
        )

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
        if complete:
            return label(_("set"), "success")
        if _was_synced_lately(account):
            return label(_("missing here, held by workers"), "")
        return label(_("missing"), "danger")

    @admin.display(description=gettext_lazy("Key age"))
    def key_age(self, account: ExchangeAccount) -> str:
        return key_label(getattr(account, "sync", None))

    @admin.display(description=gettext_lazy("Expected variables"))
    def variables(self, account: ExchangeAccount) -> str:
        """List the variables and whether they are set, never a value or a part of one."""
        rows = ((variable(account, suffix), _state_of(account, suffix)) for suffix in VARIABLES)
        link = reverse("admin:exchanges_exchangeaccount_check_key", args=[account.pk])
        return format_html(
            '<table class="desk-table">{}</table><a class="desk-link" href="{}">{}</a>',
            format_html_join("", _VARIABLE_ROW, rows),
            link,
            _("Check the key"),
        )

    # Verbs

    @admin.action(description=gettext_lazy("Halt trading"), permissions=["halt"])
    def halt_selected(
        self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]
    ) -> HttpResponse:
        return self.switch(request, [*queryset], name="halt", back=request.get_full_path())

    @admin.action(description=gettext_lazy("Reduce only"), permissions=["halt"])
    def reduce_selected(
        self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]
    ) -> HttpResponse:
        return self.switch(request, [*queryset], name="reduce", back=request.get_full_path())

    @admin.action(description=gettext_lazy("Resume trading"), permissions=["resume"])
    def resume_selected(
        self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]
    ) -> HttpResponse:
        return self.switch(request, [*queryset], name="resume", back=request.get_full_path())

    def has_reconcile_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.reconcile_account")

    @admin.action(
        description=gettext_lazy("Reconcile with the exchange"), permissions=["reconcile"]
    )
    def reconcile_selected(self, request: HttpRequest, queryset: QuerySet[ExchangeAccount]) -> None:
        for account in queryset:
            if enqueue.enqueue_reconciliation(account, requested_by=request.user.get_username()):
                messages.success(
                    request,
                    _("%(account)s: Reconciliation enqueued.") % {"account": account},
                )
            else:
                text = _(
                    "%(account)s: Reconciliation could not be enqueued because the broker"
                    " doesn't answer. Try again later."
                )
                messages.error(request, text % {"account": account})

    @action(
        description=gettext_lazy("Halt trading"),
        permissions=["halt"],
        url_path="halt",
        icon="front_hand",
        variant=ActionVariant.DANGER,
    )
    def halt_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_this(request, object_id, name="halt")

    @action(
        description=gettext_lazy("Reduce only"),
        permissions=["halt"],
        url_path="reduce",
        icon="trending_down",
    )
    def reduce_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_this(request, object_id, name="reduce")

    @action(
        description=gettext_lazy("Resume trading"),
        permissions=["resume"],
        url_path="resume",
        icon="play_arrow",
    )
    def resume_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_this(request, object_id, name="resume")

    @action(
        description=gettext_lazy("Check the key"),
        permissions=["reconcile"],
        url_path="check-key",
        icon="key",
    )
    def check_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask the exchange for the key's permissions, through a worker if we hold no key."""
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        if request.method != "POST":
            return ask_first(self, request, title=_("Check the key"), subject=account.name)
        try:
            problems = trading_state.ask_for_key_problems(account)
        except GatewayError as error:
            text = _("The key could not be checked: %(error)s.")
            messages.error(request, text % {"error": error.message})
        else:
            if problems:
                text = _("The exchange accepts the key, but it is not safe: %(problems)s.")
                messages.warning(request, text % {"problems": ", ".join(problems)})
            else:
                messages.success(request, _("The exchange accepts the key, and the key is safe."))
        return HttpResponseRedirect(
            reverse("admin:exchanges_exchangeaccount_change", args=[object_id])
        )

    def _switch_this(self, request: HttpRequest, object_id: str, *, name: str) -> HttpResponse:
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        back = reverse("admin:exchanges_exchangeaccount_change", args=[object_id])
        return self.switch(request, [account], name=name, back=back)


def _was_synced_lately(account: ExchangeAccount) -> bool:
    """Return whether some process with the keys has compared the account lately."""
    last = account.last_synced_at
    return (
        last is not None and (clock.now() - last).total_seconds() <= settings.MAX_UNSYNCED_SECONDS
    )


def is_set(account: ExchangeAccount, suffix: str) -> bool:
    return bool(os.environ.get(variable(account, suffix), "").strip())


def _state_of(account: ExchangeAccount, suffix: str) -> str:
    if is_set(account, suffix):
        return _("set")
    if suffix in ("REST_URL", "WS_URL") and account.environment in OWN_HOSTS:
        return _("not set: uses Binance's own host")
    if suffix == "API_SECRET_FILE" and is_set(account, "API_SECRET"):
        return _("not set and not needed")
    return _("not set")


def _orders_with(statuses: Iterable[str]) -> Coalesce:
    """Count an account's orders in these statuses, through the partial index on them."""
    own = ExchangeAccount.objects.filter(
        pk=OuterRef("pk"), orders__status__in=[*statuses]
    ).order_by()
    return Coalesce(Subquery(own.values("pk").annotate(count=Count("orders")).values("count")), 0)


def _orders_link(account: ExchangeAccount, phase: str, count: int) -> str:
    address = reverse("admin:orders_order_changelist")
    return format_html(
        '<a class="desk-link" href="{}?phase={}&amp;account__id__exact={}">{}</a>',
        address,
        phase,
        account.pk,
        count,
    )
