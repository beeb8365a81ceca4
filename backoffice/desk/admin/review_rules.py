"""The rules that ask for a second person."""

from __future__ import annotations

from django.contrib import admin
from unfold.admin import ModelAdmin

from backoffice.desk.columns import decimal_column, moment
from backoffice.people.account_rows import AccountRows
from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.step_up import RecentFactorToChange
from orders.models import ReviewRule


@admin.register(ReviewRule)
class ReviewRuleAdmin(AccountRows, RecentFactorToChange, JournaledAdmin, ModelAdmin):
    list_display = (
        "kind",
        "account",
        "symbol",
        "strategy",
        decimal_column(ReviewRule, "notional_above"),
        moment(ReviewRule, "created_at"),
    )
    list_select_related = ("account",)
    fields = ("kind", "account", "symbol", "strategy", "notional_above")
    sortable_by = ()
