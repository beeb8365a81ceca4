"""Instruments and their filters."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from backoffice.desk.lists.columns import EMPTY, environment_text, label, moment
from backoffice.desk.lists.paging import BigTable
from exchanges.models import Instrument
from exchanges.types import plain

_FILTER_ROW = "<tr><td><code>{}</code></td><td>{}</td></tr>"


@admin.register(Instrument)
class InstrumentAdmin(BigTable):
    list_display = (
        "symbol",
        "environment_label",
        "status_label",
        "base_asset",
        "quote_asset",
        "tick_number",
        "step_number",
        "minimum_notional_number",
        moment(Instrument, "updated_at"),
    )
    list_filter = (("environment", ChoicesDropdownFilter), "status")
    card_lines = (
        "symbol status_label",
        "tick_number step_number minimum_notional_number",
        "environment_label updated_at",
    )
    empty_text = gettext_lazy("No instruments yet")
    empty_hint = gettext_lazy(
        "They are read from the exchange once an account is enabled, at the start and then every"
        " hour."
    )
    search_fields = ("symbol__startswith", "base_asset__exact", "quote_asset__exact")
    fields = readonly_fields = (
        "symbol",
        "exchange",
        "environment_label",
        "status_label",
        "base_asset",
        "quote_asset",
        "quote_precision",
        "quote_order_quantity_allowed",
        "order_types_text",
        "filters_table",
        "updated_time",
    )
    updated_time = staticmethod(moment(Instrument, "updated_at"))

    @admin.display(description=gettext_lazy("Environment"), ordering="environment")
    def environment_label(self, instrument: Instrument) -> str:
        return environment_text(instrument)

    @admin.display(description=gettext_lazy("Status"), ordering="status")
    def status_label(self, instrument: Instrument) -> str:
        return label(instrument.status, "success" if instrument.status == "TRADING" else "")

    @admin.display(description=gettext_lazy("Tick size"))
    def tick_number(self, instrument: Instrument) -> str:
        return _value_of(instrument, "PRICE_FILTER", "tickSize")

    @admin.display(description=gettext_lazy("Step size"))
    def step_number(self, instrument: Instrument) -> str:
        return _value_of(instrument, "LOT_SIZE", "stepSize")

    @admin.display(description=gettext_lazy("Minimum notional"))
    def minimum_notional_number(self, instrument: Instrument) -> str:
        values = (
            _value_of(instrument, name, "minNotional") for name in ("NOTIONAL", "MIN_NOTIONAL")
        )
        return next((text for text in values if text != EMPTY), EMPTY)

    @admin.display(description=gettext_lazy("Order types"))
    def order_types_text(self, instrument: Instrument) -> str:
        return ", ".join(map(str, instrument.order_types)) or EMPTY

    @admin.display(description=gettext_lazy("Filters"))
    def filters_table(self, instrument: Instrument) -> str:
        rows = ((item.get("filterType", ""), _filter_text(item)) for item in instrument.filters)
        return format_html(
            '<table class="desk-table">{}</table>', format_html_join("", _FILTER_ROW, rows)
        )


def _value_of(instrument: Instrument, filter_type: str, name: str) -> str:
    value = instrument.rules.figure(filter_type, name)
    return plain(value) if value else EMPTY


def _filter_text(item: dict[str, Any]) -> str:
    """Return the values of one filter: `maxPrice 1000000, minPrice 0.01`."""
    return ", ".join(
        f"{name} {_plain_text(item[name])}" for name in sorted(item) if name != "filterType"
    )


def _plain_text(value: Any) -> str:
    try:
        return plain(Decimal(value)) if isinstance(value, str) else str(value)
    except InvalidOperation:
        return str(value)
