"""The pages of the limits: rows that staff with the permission edit, and the list of every change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from exchanges.pages import ReadOnlyRecords, document, figure, moment
from exchanges.types import plain
from orders.desk.asking import ask_gate
from orders.models import RiskLimit, RiskLimitChange

_SCOPE = ("account", "symbol", "strategy", "currency")
_WORDS = ("allowed_symbols",)
_MONEY = ("max_order_notional", "max_notional_per_day", "max_daily_loss", "max_position", "max_price_distance")
_COUNTS = (
    "max_open_orders",
    "max_orders_per_second",
    "max_orders_per_day",
    "max_price_age",
    "max_identical_orders",
    "identical_window",
)


def figures_of(limit: RiskLimit) -> dict[str, Any]:
    """What a row says, as JSON: decimals as text, what is not limited left out."""
    found: dict[str, Any] = {name: str(getattr(limit, name)) for name in _SCOPE}
    found |= {name: plain(value) for name in _MONEY if (value := getattr(limit, name)) is not None}
    found |= {name: value for name in _WORDS if (value := getattr(limit, name))}
    return found | {name: value for name in _COUNTS if (value := getattr(limit, name)) is not None}


def note_change(before: RiskLimit | None, after: RiskLimit | None, *, actor: str) -> None:
    """Keep who changed a row and how; in the transaction of the change."""
    row = after or before
    assert row is not None
    RiskLimitChange.objects.create(
        account=row.account,
        actor=actor,
        subject=str(row),
        before=figures_of(before) if before else {},
        after=figures_of(after) if after else {},
    )


@admin.register(RiskLimit)
class RiskLimitAdmin(ModelAdmin):
    list_display = (*_SCOPE, *_WORDS, *(figure(RiskLimit, name) for name in _MONEY), *_COUNTS)
    list_select_related = ("account",)
    list_filter = ("account",)
    ordering = ("account", "symbol", "strategy")
    fields = (*_SCOPE, *_WORDS, *_MONEY, *_COUNTS)

    def get_urls(self) -> list[Any]:
        return [path("ask/", self.admin_site.admin_view(self.ask), name="orders_risklimit_ask"), *super().get_urls()]

    def ask(self, request: HttpRequest) -> HttpResponse:
        """What the gate would answer to an order."""
        return ask_gate(request, self.admin_site)

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        with transaction.atomic():
            before = RiskLimit.objects.select_for_update().get(pk=obj.pk) if change else None
            super().save_model(request, obj, form, change)
            note_change(before, RiskLimit.objects.get(pk=obj.pk), actor=request.user.get_username())

    def delete_model(self, request: HttpRequest, obj: RiskLimit) -> None:
        with transaction.atomic():
            note_change(obj, None, actor=request.user.get_username())
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RiskLimit]) -> None:
        for row in queryset:
            self.delete_model(request, row)


@admin.register(RiskLimitChange)
class RiskLimitChangeAdmin(ReadOnlyRecords, ModelAdmin):
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
    search_help_text = gettext_lazy("Who, or whose limits")
