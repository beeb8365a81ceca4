"""Risk limits, which staff with the permission edit, and the log of every change."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from backoffice.desk.admin.journal import TouchedVerb
from backoffice.desk.drafts.forms import DraftedChanges
from backoffice.desk.limit_use import bars, uses_of
from backoffice.desk.lists.columns import EMPTY, decimal_column, document, label, moment, utc
from backoffice.desk.lists.filters import AccountFilter
from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.desk.pages.gate_preview import preview_gate
from backoffice.people.account_rows import AccountRows
from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.step_up import RecentFactorToChange
from exchanges import clock
from exchanges.mirror.money import money_assets
from exchanges.models import Environment, ExchangeAccount
from exchanges.types import plain
from orders.gate.limits import in_force, limits_of_row
from orders.gate.loosening import Book, loosens
from orders.models import ReviewKind, RiskLimit, RiskLimitChange

_SCOPE = ("account", "symbol", "strategy", "currency")
_WORDS = ("allowed_symbols",)
_MONEY = (
    "max_order_notional",
    "max_notional_per_day",
    "max_daily_loss",
    "max_position",
    "max_price_distance",
)
_COUNTS = (
    "max_open_orders",
    "max_orders_per_second",
    "max_orders_per_day",
    "max_price_age",
    "max_identical_orders",
    "identical_window",
)


def limits_of(limit: RiskLimit) -> dict[str, Any]:
    """Return the limits of a row as JSON: decimals as text, without the unlimited fields."""
    found: dict[str, Any] = {name: str(getattr(limit, name)) for name in _SCOPE}
    found |= {name: plain(value) for name in _MONEY if (value := getattr(limit, name)) is not None}
    found |= {name: value for name in _WORDS if (value := getattr(limit, name))}
    found |= {name: value for name in _COUNTS if (value := getattr(limit, name)) is not None}
    return found | ({"until": limit.until.isoformat()} if limit.until else {})


def record_change(before: RiskLimit | None, after: RiskLimit | None, *, actor: str) -> None:
    """Store who changed a row and how, in the transaction of the change."""
    row = after or before
    assert row is not None
    RiskLimitChange.objects.create(
        account=row.account,
        actor=actor,
        subject=str(row),
        before=limits_of(before) if before else {},
        after=limits_of(after) if after else {},
    )


def _loosens(account: ExchangeAccount, before: RiskLimit | None, after: RiskLimit | None) -> bool:
    """Return whether an order of the account might pass only after the change."""
    old = list(RiskLimit.objects.filter(account=account))
    new = [row for row in old if before is None or row.pk != before.pk]
    if after is not None and after.account == account:
        new.append(after)
    is_live = account.environment == Environment.LIVE
    money = money_assets(account.exchange, account.environment)
    was, will_be = (Book([*map(limits_of_row, rows)], is_live, money) for rows in (old, new))
    return loosens(was, will_be, clock.now())


def _is_override(before: RiskLimit | None, after: RiskLimit | None) -> bool:
    """Return whether a lasting limit gets a temporary one beside it."""
    return bool(before and after and before.until is None and after.until is not None)


def mark_force(rows: list[Any]) -> None:
    """Mark each row as in force or not, with the time until which a temporary row replaces it."""
    own: dict[int, list[Any]] = defaultdict(list)
    for row in RiskLimit.objects.filter(account__in={row.account_id for row in rows}):
        own[row.account_id].append(limits_of_row(row))
    now = clock.now()
    for row in rows:
        counting = in_force(own[row.account_id], now)
        row.is_in_force = any(one.id == row.pk for one in counting)
        ends = [
            one.until for one in counting if one.until and one.place == limits_of_row(row).place
        ]
        row.replaced_until = max(ends) if ends and not row.is_in_force and not row.until else None


class UsedLimits(ChangeList):
    """Limits with their use, as `row.uses`, and whether they count now."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        uses = uses_of(self.result_list)
        mark_force(self.result_list)
        for row in self.result_list:
            row.uses = uses[row.pk] if row.is_in_force else []


@admin.register(RiskLimit)
class RiskLimitAdmin(
    AccountRows, RecentFactorToChange, DraftedChanges, JournaledAdmin, TouchedVerb, ModelAdmin
):
    empty_text = gettext_lazy("No risk limits")
    empty_hint = gettext_lazy(
        "Add a limit for an account, a symbol or a strategy. Without one, only live accounts have"
        " limits: the default ones."
    )
    draft_kind = ReviewKind.LIMIT
    list_display = (
        *_SCOPE,
        "until_label",
        "use_bars",
        *_WORDS,
        *(decimal_column(RiskLimit, name) for name in _MONEY),
        *_COUNTS,
    )
    list_select_related = ("account",)
    list_filter = (("account", AccountFilter),)
    ordering = ("account", "symbol", "strategy")
    actions_detail = ("who_touched",)
    fieldsets = (
        (
            None,
            {
                "fields": (*_SCOPE, *_WORDS, *_MONEY, *_COUNTS, "until"),
                "description": gettext_lazy(
                    "Each limit is a maximum. An empty limit allows everything, and if several rows"
                    " apply to an order, the tightest limit counts."
                ),
            },
        ),
    )

    def subject_of(self, obj: RiskLimit) -> str:
        return f"limit:{obj.pk}"

    touched_name = subject_of

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UsedLimits

    @admin.display(description=gettext_lazy("Until"))
    def until_label(self, row: Any) -> str:
        if row.until and not row.is_in_force:
            return format_html("{} {}", label(_("ended"), ""), utc(row.until))
        if row.until:
            return format_html("{} {}", label(_("temporary"), "warning"), utc(row.until))
        if row.replaced_until:
            return format_html("{} {}", label(_("replaced until"), ""), utc(row.replaced_until))
        return EMPTY

    @admin.display(description=gettext_lazy("Used now"))
    def use_bars(self, row: Any) -> str:
        return bars(row.uses)

    def get_urls(self) -> list[Any]:
        return [
            path("ask/", self.admin_site.admin_view(self.ask), name="orders_risklimit_ask"),
            *super().get_urls(),
        ]

    def ask(self, request: HttpRequest) -> HttpResponse:
        """Show how the gate would answer an order."""
        return preview_gate(request, self.admin_site)

    def loosens(self, before: RiskLimit | None, after: RiskLimit | None) -> bool:
        if _is_override(before, after):
            before = None  # it stays
        rows = [row for row in (before, after) if row is not None]
        return any(_loosens(row.account, before, after) for row in rows)

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        with transaction.atomic():
            before = RiskLimit.objects.select_for_update().get(pk=obj.pk) if change else None
            self.require_second_person(request, before, obj)
            self.remember_before(request, obj, change=change)
            if _is_override(before, obj):
                obj.pk, obj._state.adding = None, True  # the lasting limit stays  # noqa: SLF001
            obj.save()
            record_change(
                before, RiskLimit.objects.get(pk=obj.pk), actor=request.user.get_username()
            )

    def delete_model(self, request: HttpRequest, obj: RiskLimit) -> None:
        with transaction.atomic():
            record_change(obj, None, actor=request.user.get_username())
            super().delete_model(request, obj)


@admin.register(RiskLimitChange)
class RiskLimitChangeAdmin(AccountRows, ReadOnlyRecords, ModelAdmin):
    empty_text = gettext_lazy("No changes of risk limits")
    empty_hint = gettext_lazy(
        "Each added, changed or deleted limit appears here, with its values before and after."
    )
    list_display = (
        moment(RiskLimitChange, "at"),
        "actor",
        "account",
        "subject",
        document(RiskLimitChange, "before"),
        document(RiskLimitChange, "after"),
    )
    list_display_links = None
    list_select_related = ("account",)
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("actor", "subject")
    search_help_text = gettext_lazy("Person, or account of the limits")
