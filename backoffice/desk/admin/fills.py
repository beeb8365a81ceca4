"""Fills: their list, and the table on the page of an order."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesRadioFilter

from backoffice.desk.lists.columns import (
    EMPTY,
    decimal_column,
    moment,
    number,
    order_link,
    side_text,
)
from backoffice.desk.lists.exports import Exports
from backoffice.desk.lists.filters import AccountFilter, SymbolFilter
from backoffice.desk.lists.paging import GridTable
from backoffice.desk.lists.saved_views import ChosenColumns
from backoffice.desk.lists.search import find_orders
from backoffice.desk.mixins import GridFormSet, RecordInline
from backoffice.people.account_rows import AccountRows
from backoffice.people.grants import account_ids
from orders.models import Fill


class FillLabels:
    """Mixin for the pages of fills."""

    @admin.display(description=gettext_lazy("Commission"))
    def commission_number(self, row: Fill) -> str:
        return format_html("{} {}", number(row.commission), row.commission_asset)

    @admin.display(description=gettext_lazy("Liquidity"))
    def liquidity_label(self, row: Fill) -> str:
        if row.is_maker is None:
            return EMPTY
        return _("maker") if row.is_maker else _("taker")


class FillInline(FillLabels, RecordInline):
    model = Fill
    formset = GridFormSet
    ordering = ("traded_at", "id")
    readonly_fields = (
        moment(Fill, "traded_at", precise=True),
        "trade_id",
        decimal_column(Fill, "quantity", "quantity"),
        decimal_column(Fill, "price", "price"),
        decimal_column(Fill, "quote_quantity", "money"),
        "commission_number",
        "liquidity_label",
    )


@admin.register(Fill)
class FillAdmin(AccountRows, ChosenColumns, Exports, FillLabels, GridTable):
    list_display = (
        moment(Fill, "traded_at"),
        "account",
        "symbol",
        "side_label",
        decimal_column(Fill, "quantity", "quantity"),
        decimal_column(Fill, "price", "price"),
        decimal_column(Fill, "quote_quantity", "money"),
        "commission_number",
        "liquidity_label",
        "trade_id",
        "order_label",
    )
    export_fields = (
        *("traded_at", "account__name", "symbol", "side", "quantity", "price", "quote_quantity"),
        *("commission", "commission_asset", "is_maker", "trade_id", "order__intent_id", "order_id"),
        *("exchange_order__exchange_order_id", "exchange_order__client_order_id"),
    )
    card_lines = (
        "symbol side_label quantity_number price_number",
        "quote_quantity_number commission_number liquidity_label",
        "traded_at account order_label",
    )
    empty_text = gettext_lazy("No fills yet")
    empty_hint = gettext_lazy(
        "Each trade of an order appears here as soon as the exchange reports it."
    )
    list_display_links = None
    list_select_related = ("account", "order")
    list_filter = (("account", AccountFilter), SymbolFilter, ("side", ChoicesRadioFilter))
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("trade_id",)
    search_help_text = gettext_lazy("Trade ID or any ID of its order, or its beginning")
    fields = readonly_fields = (*list_display[:-1], "order_label")

    @admin.display(description=gettext_lazy("Side"))
    def side_label(self, row: Fill) -> str:
        return side_text(row)

    @admin.display(description=gettext_lazy("Order"))
    def order_label(self, row: Fill) -> str:
        return order_link(row)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Fill], search_term: str
    ) -> tuple[QuerySet[Fill], bool]:
        if search_term.strip():
            found = find_orders(search_term, accounts=account_ids(request.user))
            queryset = queryset.filter(order__in=found)
        return queryset, False
