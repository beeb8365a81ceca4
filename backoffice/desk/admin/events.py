"""Events of orders: their list, and the table on the page of an order."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from backoffice.desk.lists.columns import change_text, document, moment, order_link
from backoffice.desk.lists.exports import Exports
from backoffice.desk.lists.paging import BigTable
from backoffice.desk.lists.saved_views import ChosenColumns
from backoffice.desk.lists.search import find_orders
from backoffice.desk.mixins import RecordInline
from backoffice.people.account_rows import AccountRows
from backoffice.people.grants import account_ids
from orders.models import OrderEvent


class OrderEventInline(RecordInline):
    model = OrderEvent
    ordering = ("id",)
    verbose_name_plural = gettext_lazy("Events")
    readonly_fields = (
        moment(OrderEvent, "at", precise=True),
        "event_type",
        "change",
        "actor",
        "source",
        document(OrderEvent, "details"),
    )

    @admin.display(description=gettext_lazy("Before → after"))
    def change(self, event: OrderEvent) -> str:
        return change_text(event)


@admin.register(OrderEvent)
class OrderEventAdmin(AccountRows, ChosenColumns, Exports, BigTable):
    account_path = "order__account"
    list_display = (
        moment(OrderEvent, "at", precise=True),
        "order_label",
        "event_type",
        "change",
        "actor",
        "source",
    )
    more_columns = (document(OrderEvent, "details"),)
    export_fields = (
        *("at", "order__account__name", "order__intent_id", "order_id", "event_type"),
        *("previous_status", "new_status", "actor", "source", "details"),
    )
    card_lines = ("event_type change", "order_label", "at actor source")
    empty_text = gettext_lazy("No events yet")
    empty_hint = gettext_lazy(
        "Each change of an order is an event, with its actor, its time and the exchange's own"
        " words."
    )
    list_select_related = ("order",)
    list_filter = (("event_type", ChoicesDropdownFilter),)
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("actor",)
    search_help_text = gettext_lazy("Any ID of the order")
    fields = readonly_fields = (*list_display, document(OrderEvent, "details"))

    @admin.display(description=gettext_lazy("Order"))
    def order_label(self, row: OrderEvent) -> str:
        return order_link(row)

    @admin.display(description=gettext_lazy("Before → after"))
    def change(self, row: OrderEvent) -> str:
        return change_text(row)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OrderEvent], search_term: str
    ) -> tuple[QuerySet[OrderEvent], bool]:
        if search_term.strip():
            found = find_orders(search_term, accounts=account_ids(request.user))
            queryset = queryset.filter(order__in=found)
        return queryset, False
