"""Risk limits, which staff with the permission edit, and the log of every change."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from backoffice.desk.admin.journal import TouchedVerb
from backoffice.desk.columns import decimal_column, document, moment
from backoffice.desk.drafted_forms import DraftedChanges
from backoffice.desk.filters import AccountFilter
from backoffice.desk.gate_preview import preview_gate
from backoffice.desk.limit_use import bars, uses_of
from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.people.account_rows import AccountRows
from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.step_up import RecentFactorToChange
from exchanges.mirror.money import money_assets
from exchanges.models import Environment, ExchangeAccount
from exchanges.types import plain
from orders.gate.limits import Limits
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
    return found | {name: value for name in _COUNTS if (value := getattr(limit, name)) is not None}


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
    was, will_be = (Book([*map(_limits, rows)], is_live, money) for rows in (old, new))
    return loosens(was, will_be)


def _limits(row: RiskLimit) -> Limits:
    return Limits(**{field.name: getattr(row, field.name) for field in fields(Limits)})


class UsedLimits(ChangeList):
    """Limits with their use, as `row.uses`."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        uses = uses_of(self.result_list)
        for row in self.result_list:
            row.uses = uses[row.pk]


@admin.register(RiskLimit)
class RiskLimitAdmin(
    AccountRows, RecentFactorToChange, DraftedChanges, JournaledAdmin, TouchedVerb, ModelAdmin
):
    draft_kind = ReviewKind.LIMIT
    list_display = (
        *_SCOPE,
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
                "fields": (*_SCOPE, *_WORDS, *_MONEY, *_COUNTS),
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
        rows = [row for row in (before, after) if row is not None]
        return any(_loosens(row.account, before, after) for row in rows)

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        with transaction.atomic():
            before = RiskLimit.objects.select_for_update().get(pk=obj.pk) if change else None
            super().save_model(request, obj, form, change)
            record_change(
                before, RiskLimit.objects.get(pk=obj.pk), actor=request.user.get_username()
            )

    def delete_model(self, request: HttpRequest, obj: RiskLimit) -> None:
        with transaction.atomic():
            record_change(obj, None, actor=request.user.get_username())
            super().delete_model(request, obj)


@admin.register(RiskLimitChange)
class RiskLimitChangeAdmin(AccountRows, ReadOnlyRecords, ModelAdmin):
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
