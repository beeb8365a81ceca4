"""The rules that ask for a second person."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from backoffice.desk.drafts.forms import DraftedChanges
from backoffice.desk.lists.columns import decimal_column, moment
from backoffice.people.account_rows import AccountRows
from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.step_up import RecentFactorToChange
from orders.models import ReviewKind, ReviewRule


@admin.register(ReviewRule)
class ReviewRuleAdmin(
    AccountRows, RecentFactorToChange, DraftedChanges, JournaledAdmin, ModelAdmin
):
    empty_text = gettext_lazy("No rules for a second person")
    empty_hint = gettext_lazy(
        "Nothing waits for a second person. Add a rule to make large orders or changes"
        " wait for one."
    )
    draft_kind = ReviewKind.RULE
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

    def loosens(self, before: ReviewRule | None, after: ReviewRule | None) -> bool:
        return before is not None and (after is None or not after.covers(before))
