"""Lists over tables that can hold millions of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import Paginator
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from backoffice.desk.lists.grids import attach_grids
from backoffice.desk.mixins import ReadOnlyRecords

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator


class PageTurner(_Paginator):
    """Turn pages without a count of the rows, which would read all of them.

    `count` is the number of rows up to and including the one after this page.
    """

    LAST_ROW = 10_000  # people rarely page further, and each row before a page must be skipped
    template_name = "desk/pages.html"
    count = 0


class UncountedList(ChangeList):
    """Read one row more than a page shows: the row that says whether there is a next page."""

    paginator: PageTurner
    result_list: Any
    page_num: int

    def get_filters_params(self, params: Any = None) -> Any:
        """Leave out the parameters that choose columns."""
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in OWN_PARAMETERS}

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        start = (self.page_num - 1) * size
        if not 0 <= start < PageTurner.LAST_ROW:
            raise IncorrectLookupParameters
        rows = list(self.queryset[start : start + size + 1])
        if start and not rows:
            raise IncorrectLookupParameters
        self.result_list = self.prepared(rows[:size])
        self.result_count = self.full_result_count = start + len(rows)
        self.paginator = PageTurner(self.queryset, size)
        self.paginator.count = self.result_count
        self.multi_page = self.result_count > size
        self.can_show_all = self.show_full_result_count = False
        self.show_admin_actions = True

    def prepared(self, rows: list[Any]) -> list[Any]:
        """Return the rows of the page with everything that their columns need."""
        return rows

    # For the template

    @property
    def first_row(self) -> int:
        return (self.page_num - 1) * int(self.list_per_page) + 1

    @property
    def last_row(self) -> int:
        return self.first_row + len(self.result_list) - 1

    @property
    def has_next(self) -> bool:
        return bool(self.result_count > self.last_row)

    @property
    def is_last_allowed(self) -> bool:
        return self.page_num * int(self.list_per_page) >= PageTurner.LAST_ROW


# Parameters of a list's address that filter nothing.
OWN_PARAMETERS = frozenset({"columns"})


class BigTable(ReadOnlyRecords, ModelAdmin):
    """A list over a big table: it never counts the rows, and sorts only by an index."""

    change_list_template = "desk/list.html"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_fullwidth = True
    list_filter_submit = True
    list_disable_select_all = True
    # On a phone a row is a card. Each text names the columns of one of its lines.
    card_lines: tuple[str, ...] = ()
    # An empty list says what would be here, and what to do.
    empty_text: Any = ""
    empty_hint: Any = ""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[UncountedList]:
        return UncountedList


class GridList(UncountedList):
    """Rows with the grid of their symbol."""

    def prepared(self, rows: list[Any]) -> list[Any]:
        return attach_grids(rows)


class GridTable(BigTable):
    """A list whose numbers are shown on the grid of each row's symbol."""

    list_select_related: tuple[str, ...] = ("account",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[UncountedList]:
        return GridList

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        row = super().get_object(request, *args, **kwargs)
        if row is not None:
            attach_grids([row])
        return row
