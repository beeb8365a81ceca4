"""Positions, with every fill up to this moment."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice.desk.lists.columns import EMPTY, decimal_column, label, moment, number
from backoffice.desk.lists.filters import AccountFilter, SymbolFilter
from backoffice.desk.lists.paging import GridList, GridTable, UncountedList
from backoffice.people.account_rows import AccountRows
from exchanges.types import plain
from orders.models import Position
from orders.positions.store import PositionNow, positions_of


class PositionList(GridList):
    """Rows with the fills since they were last folded, as `row.now`."""

    has_opening_balance = False  # of any row, for the note above the list

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        now: dict[tuple[int, str], PositionNow] = {}
        for account in {row.account for row in self.result_list}:
            now |= {(account.pk, position.symbol): position for position in positions_of(account)}
        for row in self.result_list:
            row.now = now[row.account_id, row.symbol]
            self.has_opening_balance |= is_opening_balance(row.now.holding.quantity)


def is_opening_balance(quantity: Decimal) -> bool:
    """Return whether more was sold than bought, which a spot account can only do from a balance.

    Such a balance existed before the first fill that we know of, or it was deposited since.
    """
    return quantity < 0


@admin.register(Position)
class PositionAdmin(AccountRows, GridTable):
    list_display = (
        "account",
        "base_asset",
        "quote_asset",
        "quantity_number",
        "average_cost_number",
        decimal_column(Position, "last_price", "price"),
        "unrealized_number",
        "realized_number",
        "fees_number",
        moment(Position, "priced_at"),
    )
    card_lines = (
        "base_asset quote_asset quantity_number",
        "unrealized_number realized_number",
        "account priced_at",
    )
    empty_text = gettext_lazy("No positions yet")
    empty_hint = gettext_lazy(
        "The fills of an account add up to a position for each symbol. The first fill makes one."
    )
    list_display_links = None
    list_filter = (("account", AccountFilter), SymbolFilter)
    list_before_template = "desk/positions_note.html"
    ordering = ("account", "symbol")
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[UncountedList]:
        return PositionList

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A page of one position would say no more than its row.
        return obj is None and super().has_view_permission(request, obj)

    @admin.display(description=gettext_lazy("Quantity"))
    def quantity_number(self, row: Any) -> str:
        quantity = row.now.holding.quantity
        shown = number(quantity, row.grid.quantity_text)
        if is_opening_balance(quantity):
            return format_html("{} {}", label(_("opening balance"), "info"), shown)
        return shown

    @admin.display(description=gettext_lazy("Average cost"))
    def average_cost_number(self, row: Any) -> str:
        return number(row.now.holding.average_cost, row.grid.price_text)

    @admin.display(description=gettext_lazy("Unrealized result"))
    def unrealized_number(self, row: Any) -> str:
        return number(row.now.unrealized, row.grid.money_text)

    @admin.display(description=gettext_lazy("Realized result, net"))
    def realized_number(self, row: Any) -> str:
        net = row.now.realized_net
        # Without the price of a commission the net result is lower by an unknown amount.
        return label(_("unknown"), "warning") if net is None else number(net, row.grid.money_text)

    @admin.display(description=gettext_lazy("Other commissions"))
    def fees_number(self, row: Any) -> str:
        fees = [
            f"{plain(amount)} {asset}" for asset, amount in sorted(row.now.holding.fees.items())
        ]
        return ", ".join(fees) or EMPTY
