"""Balances of the accounts, and their value in one currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RadioFilter
from unfold.views import ChangeList

from backoffice.desk.balance_values import currencies, values_of
from backoffice.desk.lists.columns import EMPTY, decimal_column, duration, moment, number
from backoffice.desk.lists.filters import AccountFilter
from backoffice.desk.lists.numbers import MONEY_DECIMALS, rounded
from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.desk.pages.tie_out import show_tie_out
from backoffice.people.account_rows import AccountRows
from backoffice.people.grants import accounts_of
from exchanges import clock
from exchanges.models import Balance
from exchanges.types import EXACT


class CurrencyFilter(RadioFilter):
    """Choose the currency of the values. It leaves no row out."""

    title = gettext_lazy("value in")
    parameter_name = "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        places = [Balance(account=account) for account in accounts_of(request.user)]
        return [(asset, asset) for asset in currencies(places)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Balance]) -> QuerySet[Balance]:
        return queryset


class ValuedBalances(ChangeList):
    """Balances with their value, as `row.value`, and the sum of the page's known values."""

    result_list: Any
    currency = ""
    total: Decimal | None = None
    unvalued = 0

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = rows = list(self.result_list)
        known = currencies(rows)
        chosen = request.GET.get(CurrencyFilter.parameter_name, "")
        self.currency = chosen if chosen in known else next(iter(known), "")
        values = values_of(rows, self.currency) if self.currency else {}
        for row in rows:
            row.value, row.currency = values.get(row.pk), self.currency
        self.unvalued = sum(row.value is None for row in rows)
        amounts = [row.value.amount for row in rows if row.value is not None]
        self.total = sum(amounts, Decimal(0)) if amounts else None

    @property
    def total_text(self) -> str:
        """Write the sum with its currency."""
        return (
            "" if self.total is None else f"{rounded(self.total, MONEY_DECIMALS)} {self.currency}"
        )


@admin.register(Balance)
class BalanceAdmin(AccountRows, ReadOnlyRecords, ModelAdmin):
    empty_text = gettext_lazy("No balances yet")
    empty_hint = gettext_lazy(
        "The first sync of an account reads its balances. If none appear, check the"
        " account's key and its last sync."
    )
    list_display = (
        "asset",
        "account",
        decimal_column(Balance, "free"),
        decimal_column(Balance, "locked"),
        "total_number",
        decimal_column(Balance, "reserved"),
        "value_number",
        "price_age",
        moment(Balance, "updated_at"),
    )
    list_display_links = None
    list_filter = (("account", AccountFilter), CurrencyFilter)
    list_filter_submit = True
    list_select_related = ("account",)
    list_per_page = 50
    list_before_template = "desk/balances_note.html"
    search_fields = ("asset__exact",)
    fields = readonly_fields = (
        "asset",
        "account",
        decimal_column(Balance, "free"),
        decimal_column(Balance, "locked"),
        decimal_column(Balance, "reserved"),
        moment(Balance, "updated_at"),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ValuedBalances

    def get_urls(self) -> list[Any]:
        tie_out = self.admin_site.admin_view(self.tie_out)
        return [
            path("tie-out/", tie_out, name="exchanges_balance_tie_out"),
            *super().get_urls(),
        ]

    def tie_out(self, request: HttpRequest) -> HttpResponse:
        """Show whether the fills explain the balances."""
        return show_tie_out(request, self.admin_site)

    @admin.display(description=gettext_lazy("Total"))
    def total_number(self, row: Balance) -> str:
        return number(EXACT.add(row.free, row.locked))

    @admin.display(description=gettext_lazy("Value"))
    def value_number(self, row: Any) -> str:
        if row.value is None:
            return _("unknown: no price")
        shown = number(row.value.amount, lambda amount: rounded(amount, MONEY_DECIMALS))
        return format_html("{} {}", shown, row.currency)

    @admin.display(description=gettext_lazy("Age of the price"))
    def price_age(self, row: Any) -> str:
        if row.value is None or row.value.priced_at is None:
            return EMPTY
        return duration(clock.now() - row.value.priced_at)
