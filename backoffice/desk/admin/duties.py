"""The last run of each duty that beat repeats, and whether it stands still."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from backoffice.desk.lists.columns import label, moment
from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.duty_states import AGE, longest_age
from backoffice.people.grants import account_ids
from exchanges.models import DutyRun


@admin.register(DutyRun)
class DutyRunAdmin(ReadOnlyRecords, ModelAdmin):
    empty_text = gettext_lazy("No duties have run yet")
    empty_hint = gettext_lazy(
        "Each duty leaves its last run here. If none appears, check that beat and a worker run."
    )
    list_display = ("duty", "for_account", moment(DutyRun, "ran_at"), "state")
    list_display_links = None
    list_select_related = ("account",)
    sortable_by = ()
    search_fields = ("duty", "account__name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[DutyRun]:
        queryset: QuerySet[DutyRun] = super().get_queryset(request).annotate(age=AGE)
        granted = account_ids(request.user)
        if granted is None:
            return queryset
        return queryset.filter(Q(account=None) | Q(account__in=granted))

    @admin.display(description=gettext_lazy("Account"))
    def for_account(self, row: DutyRun) -> str:
        return row.account.name if row.account else _("all accounts")

    @admin.display(description=gettext_lazy("State"))
    def state(self, row: Any) -> str:
        if row.age.total_seconds() > longest_age(row.duty):
            return label(_("stands still"), "danger")
        return label(_("runs"), "success")
