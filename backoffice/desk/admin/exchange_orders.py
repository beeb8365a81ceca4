"""Requests to place an order, listed on the page of their order."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy

from backoffice.desk.lists.columns import OUTCOME_COLORS, decimal_column, label, moment
from backoffice.desk.mixins import GridFormSet, RecordInline
from orders.models import AttemptOutcome, ExchangeOrder


class ExchangeOrderInline(RecordInline):
    model = ExchangeOrder
    formset = GridFormSet
    verbose_name_plural = gettext_lazy("Requests to the exchange")
    readonly_fields = (
        "attempt",
        "client_order_id",
        "exchange_order_id",
        "outcome_label",
        "exchange_status",
        decimal_column(ExchangeOrder, "quantity", "quantity"),
        decimal_column(ExchangeOrder, "price", "price"),
        decimal_column(ExchangeOrder, "filled_quantity", "quantity"),
        moment(ExchangeOrder, "sent_at", precise=True),
        moment(ExchangeOrder, "acknowledged_at", precise=True),
    )

    @admin.display(description=gettext_lazy("Outcome"))
    def outcome_label(self, row: ExchangeOrder) -> str:
        return label(row.get_outcome_display(), OUTCOME_COLORS[AttemptOutcome(row.outcome)])
