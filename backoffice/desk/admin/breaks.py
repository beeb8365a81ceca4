"""Reconciliation breaks: their list, and the table on the page of an order."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from backoffice.desk.admin.journal import TouchedVerb
from backoffice.desk.bulk.pages import WholeList
from backoffice.desk.lists.columns import document, moment, order_link
from backoffice.desk.lists.exports import Exports
from backoffice.desk.lists.filters import AccountFilter, BreakStateFilter
from backoffice.desk.lists.paging import BigTable
from backoffice.desk.lists.saved_views import ChosenColumns
from backoffice.desk.mixins import RecordInline
from backoffice.desk.verbs.close_breaks import CloseForm, CloseVerb
from backoffice.people.account_rows import AccountRows
from orders.models import ReconciliationBreak


class BreakInline(RecordInline):
    model = ReconciliationBreak
    readonly_fields = (
        moment(ReconciliationBreak, "opened_at"),
        "kind",
        "subject",
        document(ReconciliationBreak, "details"),
        moment(ReconciliationBreak, "resolved_at"),
        "resolution",
    )


@admin.register(ReconciliationBreak)
class ReconciliationBreakAdmin(
    AccountRows, ChosenColumns, WholeList, Exports, TouchedVerb, CloseVerb, BigTable
):
    whole_list: ClassVar = {"close": CloseForm}
    list_display = (
        moment(ReconciliationBreak, "opened_at", ordered=True),
        "account",
        "kind",
        "subject",
        "order_label",
        moment(ReconciliationBreak, "resolved_at"),
        "resolution",
    )
    more_columns = (document(ReconciliationBreak, "details"),)
    export_fields = (
        *("opened_at", "account__name", "kind", "subject", "order__intent_id", "details"),
        *("resolved_at", "resolution"),
    )
    card_lines = ("kind", "subject account", "opened_at resolved_at")
    empty_text = gettext_lazy("No breaks")
    empty_hint = gettext_lazy(
        "Our book and the exchange agree. A difference that evidence can't repair appears here."
    )
    list_select_related = ("account", "order")
    list_filter = (
        BreakStateFilter,
        ("kind", ChoicesDropdownFilter),
        ("account", AccountFilter),
    )
    sortable_by = ("opened_at",)
    ordering = ("-opened_at",)
    actions = ("close_selected",)
    actions_detail = ("close_this", "who_touched")
    fields = readonly_fields = (*list_display, document(ReconciliationBreak, "details"))

    def touched_name(self, obj: ReconciliationBreak) -> str:
        return f"break:{obj.pk}"

    @admin.display(description=gettext_lazy("Order"))
    def order_label(self, row: ReconciliationBreak) -> str:
        return order_link(row)
